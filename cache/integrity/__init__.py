"""Whether a cache is whole, and mending it."""

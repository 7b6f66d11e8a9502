"""Tables of results, their statistics, and what they were made with."""

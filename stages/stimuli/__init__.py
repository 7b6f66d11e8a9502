"""Images, and what happens to them before a network sees them."""

"""Stage one: images into a feature cache."""

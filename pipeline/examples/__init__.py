"""Examples of what one does next: each a script with a picture, to be copied and changed."""

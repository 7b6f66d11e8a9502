"""Where tasks are computed."""

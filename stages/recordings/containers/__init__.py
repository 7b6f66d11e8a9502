"""Files and folders of named arrays: opened by one function, each array read when asked for."""

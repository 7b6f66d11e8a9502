"""Guards against files of strangers: no code of theirs runs, and none takes all memory."""

"""The format of a cache: pure functions of bytes and shapes, which read and write nothing."""

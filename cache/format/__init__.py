"""The format as pure functions of bytes and shapes, without input or output."""

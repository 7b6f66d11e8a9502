"""Writing a cache: one writer, whole shards, durable files."""

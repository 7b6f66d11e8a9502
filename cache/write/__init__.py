"""The writer of a cache: one per store, whole shards, durable files."""

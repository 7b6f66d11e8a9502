"""Stage two: readouts fitted to cached tokens."""

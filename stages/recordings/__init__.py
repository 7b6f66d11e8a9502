"""Readers of published recordings; each ends in the one in-memory `stages.recording.Recording`."""

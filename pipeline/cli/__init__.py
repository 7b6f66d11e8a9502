"""The command line."""

from pipeline.cli.app import main, script

__all__ = ["main", "script"]

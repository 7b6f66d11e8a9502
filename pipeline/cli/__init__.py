"""The command line."""

from pipeline.cli.main import main, script

__all__ = ["main", "script"]

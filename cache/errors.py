"""Errors that a person can act on, each told in one line."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or settings: what is wrong, where, and what to do, in one line.

    The command line prints the message without a traceback and exits with 2.
    """


class CacheError(UserError):
    """A feature cache that cannot be used as asked: absent, incomplete, other settings, damaged."""

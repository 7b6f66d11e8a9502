"""Running a command: its exit code, and one line of what went wrong."""

from __future__ import annotations

import errno
import os
import signal
import sys

import typer

from cache import UserError
from pipeline.cli.app import app
from pipeline.cli.environment import complete
from pipeline.terminal import printable

#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed while running, 2 bad input.

    130 after Ctrl-C, as shells have it.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    try:
        code = int(app(args=given, prog_name="vitv1", standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except UserError as error:
        if debug:
            raise
        return _fail(str(error), 2)
    except Exception as error:
        return _failed(error, debug=debug)
    if code == INTERRUPTED:
        _fail("interrupted; the same command goes on from here", code)
    return code


def _failed(error: Exception, *, debug: bool) -> int:
    """Exit code and message of an error that is not known to be the input's."""
    from stages.failures import StepsFailed

    if isinstance(error, StepsFailed):
        for failed in error.failed:
            if debug and failed.details:
                print(printable(failed.details, lines=True), file=sys.stderr)
            _fail(f"{failed.name} failed: {failed.reason}", 1)
        return _fail(f"{error}; the same command tries again and keeps all others", 1)
    # What typer says of a wrong command line.
    usage = getattr(error, "format_message", None)
    if callable(usage):
        return _fail(f"{usage()} Try vitv1 --help", 2)
    if debug:
        raise error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _fail(f"no space left on the disk ({error}); free some and repeat the command", 1)
    return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _fail(message: str, code: int) -> int:
    print(f"vitv1: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


def script() -> None:
    """Entry point of the `vitv1` command."""
    complete(os.environ)
    # Batch systems say so before they kill: locks name nobody then, and workers end.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())

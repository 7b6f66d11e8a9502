"""`run.log`: what a command says, with times, kept in the run's folder."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache import UserError
from pipeline.terminal import printable
from stages.failures import StepsFailed

#: File in the run's folder; each command adds to it.
RUN_LOG = "run.log"

#: Packages whose records are kept.
_LOGGED = ("pipeline", "stages", "cache")

_log = logging.getLogger(__name__)


@contextmanager
def logged(run: Path, *, title: str, verbose: bool = False) -> Iterator[None]:
    """Keep what is said inside in the run's `run.log`, and how it ended.

    Parameters
    ----------
    title : str
        The command.
    verbose : bool
        Progress of the solvers, too.
    """
    handler = _File(run / RUN_LOG, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S%z"))
    # Reports of tasks at work come by way of the terminal, with what they belong to.
    handler.addFilter(lambda record: not hasattr(record, "done") and not hasattr(record, "part"))
    loggers = [logging.getLogger(name) for name in _LOGGED]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        _log.info(printable(f"--- {title}"))
        yield
        _log.info("--- done")
    except StepsFailed as error:
        for failed in error.failed:
            reason = f"{failed.name} failed: {failed.reason}\n{failed.details}"
            _log.error(printable(reason.strip(), lines=True))
        raise
    except UserError as error:
        _log.error(printable(f"--- {error}"))
        raise
    except Exception as error:
        _log.error(printable("".join(traceback.format_exception(error)), lines=True))
        raise
    except BaseException:
        _log.error("--- interrupted")
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()


class _File(logging.FileHandler):
    """A run does not end because its log cannot be opened, or its disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass

"""Certificates of one run's dask cluster: without them nobody connects to it."""

from __future__ import annotations

import copy
import os
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import UserError

if TYPE_CHECKING:
    from distributed import Security


def own_certificates() -> Security:
    """A certificate that only this run has; scheduler, workers and client show it to each other.

    Raises
    ------
    UserError
        A package that is not installed.
    """
    from distributed import Security

    try:
        security: Security = Security.temporary()
    except ImportError:
        raise UserError(
            'run.executor = "dask" needs cryptography, which is not installed: '
            "pip install 'vitv1[cluster]'"
        ) from None
    return security


def shared_certificates(folder: Path) -> tuple[Security, Security]:
    """The same from a file in `folder` that only its owner may read, and as jobs' scripts name it.

    Raises
    ------
    UserError
        A package that is not installed.
    """
    security: Any = own_certificates()
    # mkstemp's files have mode 0600.
    handle, file = tempfile.mkstemp(".pem", "dask-", folder.absolute())
    with os.fdopen(handle, "w") as out:
        out.write(security.tls_worker_key + security.tls_worker_cert)
    quoted = copy.copy(security)
    for of, path in ((security, file), (quoted, shlex.quote(file))):
        of.tls_ca_file = of.tls_worker_key = of.tls_worker_cert = path
    return security, quoted

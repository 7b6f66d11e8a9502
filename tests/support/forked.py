"""Child processes forked from one that has imported all that tests need, and can be killed."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from unittest import mock

#: One list for all: whoever comes first starts the server of this process, for everybody. torch
#: imports its compiler with the first optimizer.
PRELOADED = [
    "support.warm", "benchmarks.trust.small_run", "support.growth",
    "pipeline.commands", "pipeline.cache_commands", "pandas", "pipeline.report.figures.draw",
    "pipeline.report.page", "stages.backbones.backbone", "stages.extract.run", "stages.fit.run",
    "stages.finetune.run", "stages.baseline.run", "cache.share.pull", "cache.share.pack",
    "cache.integrity.repair", "zarr", "safetensors.torch", "torch._dynamo",
]  # fmt: skip


def forked() -> ForkServerContext:
    """What makes such processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # Before Python 3.13 the server does not look where this process does.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p)):
        forkserver.ensure_running()
    return context

"""Child processes forked from one that has imported all that tests need, and can be killed."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

#: One list for all: whoever comes first starts the server of this process, for everybody. torch
#: imports its compiler with the first optimizer.
PRELOADED = [
    "support.no_wait", "benchmarks.trust.small_run", "support.growth", "support.small_extraction",
    "pipeline.commands", "pipeline.cache_commands", "pandas", "pipeline.report.figures.draw",
    "pipeline.report.page", "stages.backbones.backbone", "stages.extract.run", "stages.fit.run",
    "stages.finetune.run", "stages.baseline.run", "cache.share.pull", "cache.share.pack",
    "cache.integrity.repair", "zarr", "safetensors.torch", "torch._dynamo",
]  # fmt: skip


def forked() -> ForkServerContext:
    """What makes such processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context

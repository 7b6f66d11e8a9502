"""Fits of a recording without an experiment file: what `vitv1 fit` computes, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureCache, UserError, open_cache, resolve_block, whole_number
from stages.conditions import Condition
from stages.feve import VALID_FEV
from stages.fit.run import fit_condition
from stages.fit.task import FitTask
from stages.readouts.saved import FittedCondition
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solvers import SOLVERS
from stages.recordings.derived import digest_recording
from stages.recordings.recording import Recording
from stages.tokens.kinds import KINDS


def fit_recording(
    recording: Recording,
    cache: FeatureCache | Path | str,
    *,
    blocks: Sequence[int] | str = "all",
    tokens: str = "patch",
    solver: str = ReadoutSettings.solver,
    settings: Any = None,
    seed: int = 0,
    device: str = "cpu",
    memory_limit: int | None = None,
) -> dict[int, FittedCondition]:
    """Readouts of every neuron on each block of a cache, and their scores.

    Parameters
    ----------
    recording : Recording
        Such as `Recording.from_arrays` makes.
    cache : FeatureCache or path
        Tokens of all images that the recording shows, by its image ids.
    blocks : "all" or sequence of int
        0-based; negative ones count from the last.
    tokens : str
        "patch" or "cls".
    solver, seed : str, int
        As in `[readout]` and `[run]`.
    settings : solver's settings, optional
        Such as `stages.readouts.ALSSettings`.
    memory_limit : int, optional
        Bytes that the process may use; changes no number.

    Returns
    -------
    dict of FittedCondition
        By block. `.columns["feve"]` has a number per neuron, `.readouts` predicts, and
        `mean_feve(fitted)` is what the tables call mean_feve.

    Raises
    ------
    UserError
        Settings that there are not, a block or images that the cache does not hold.
    """
    opened = cache if isinstance(cache, FeatureCache) else open_cache(str(cache))
    if tokens not in KINDS or solver not in SOLVERS:
        wrong, known = (tokens, KINDS) if tokens not in KINDS else (solver, SOLVERS)
        raise UserError(f"fit_recording: {wrong!r} is none of {', '.join(known)}: choose one")
    if isinstance(blocks, str) and blocks != "all":
        raise UserError(f'fit_recording: blocks = {blocks!r}: pass "all" or a list of blocks')
    opened.rows(recording.all_image_ids)
    wanted = opened.blocks if isinstance(blocks, str) else blocks
    named = {} if settings is None else {solver: settings}
    return {
        block: fit_condition(
            FitTask(
                condition=Condition(
                    recording=recording.name,
                    model=str(_setting(opened, "backbone", "name")),
                    input_size=_size(opened),
                    tokens=tokens,
                    block=block,
                    blocks=str(block),
                    solver=solver,
                    seed=whole_number(seed, "seed", least=0),
                ),
                cache_path=opened.path,
                cache_key=opened.key,
                weights=str(opened.provenance.get("weights", "unknown")),
                recording=recording,
                recording_digest=digest_recording(recording),
                settings=ReadoutSettings(solver=solver, **named),
                device=device,
                memory_limit=memory_limit,
            )
        )
        for block in (resolve_block(int(each), opened.n_blocks) for each in wanted)
    }


def _setting(cache: FeatureCache, table: str, key: str) -> Any:
    """A setting of the cache's identity; "unknown" where it was made elsewhere."""
    part = cache.settings.get(table)
    return part.get(key, "unknown") if isinstance(part, dict) else "unknown"


def _size(cache: FeatureCache) -> str:
    size = _setting(cache, "preprocessing", "input_size")
    return size if isinstance(size, str) else "x".join(map(str, size))


def mean_feve(fitted: FittedCondition) -> float:
    """Mean FEVE over the neurons with FEV > 0.15; NaN where there are none."""
    valid = fitted.columns["fev"] > VALID_FEV
    return float(np.mean(fitted.columns["feve"][valid])) if valid.any() else float("nan")

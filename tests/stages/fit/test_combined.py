"""Fits of a combination: both sources count, in any unit, with both solvers, in any parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bits import assert_same_bits, numbers
from support.two_caches import combined_task, of_one

from stages.executors import LocalExecutor
from stages.fit.distributed import fit_divided
from stages.fit.inputs import TaskSource
from stages.fit.notebook import mean_feve
from stages.fit.run import fit_condition
from stages.fit.schedule import one_of_each_size
from stages.readouts.als import partition
from stages.readouts.als.pca import _shares, principal_components
from stages.readouts.settings import AdamWSettings, ReadoutSettings

ADAMW = ReadoutSettings(solver="adamw", adamw=AdamWSettings(max_epochs=12, learning_rate=1e-2))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return combined_task(tmp_path_factory.mktemp("two"))


def in_unit(task, folder, unit):
    return replace(combined_task(folder, unit=unit), settings=task.settings)


def test_the_combination_explains_what_neither_source_does(task):
    both, coarse, fine = map(fit_condition, (task, of_one(task, 0), of_one(task, 1)))
    assert mean_feve(both) > max(mean_feve(coarse), mean_feve(fine)) + 0.2
    assert both.readouts.grid == (4, 6, 8)


@pytest.mark.parametrize("settings", [None, ADAMW], ids=["als", "adamw"])
def test_neither_source_drowns_the_other_in_any_unit(task, tmp_path, settings):
    """The fine tokens are a hundredth as large: half of the neurons read them."""
    chosen = replace(task, settings=settings or task.settings)
    usual, small = (fit_condition(each) for each in (chosen, in_unit(chosen, tmp_path, 0.01)))
    feve = [each.columns["feve"] for each in (usual, small)]
    for reads_one in (slice(0, 6), slice(6, 12)):
        # Descent may lose a neuron whose weights in space all reach zero.
        one, other = (np.median(each[reads_one]) for each in feve)
        assert one > 0.4 and abs(one - other) < 0.02
    # Weights are those of the tokens as they are stored.
    tokens = TaskSource(chosen).training_tokens().read(0, 40).float()
    rates = usual.readouts.held_out.predict(tokens)
    assert rates.std() > 0.5


def test_each_source_has_its_share_of_the_components(task):
    source = TaskSource(task)
    assert source.sources == (5, 3)
    components = principal_components(
        source.training_tokens(), task.settings.als, device="cpu", sources=source.sources
    )
    basis = components.basis.numpy()
    assert basis.shape == (8, 6)
    of_coarse = np.abs(basis[:5]).sum(axis=0) > 0
    assert of_coarse.sum() == 3 and not (np.abs(basis[5:]).sum(axis=0) > 0)[of_coarse].any()
    np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-5)


@given(st.lists(st.integers(1, 96), min_size=2, max_size=4), st.integers(4, 120))
def test_shares_are_equal_as_far_as_they_are_needed(wanted, most):
    shares = _shares(wanted, most)
    assert sum(shares) == min(most, sum(wanted))
    for share, need in zip(shares, wanted, strict=True):
        assert share == need or share >= most // len(wanted)
        assert share == need or all(share >= other - 1 for other in shares)


def test_parts_and_streams_give_the_same_bits(task, tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "SMALLEST_GROUP", 6)
    alone = numbers(fit_condition(task))
    executor = LocalExecutor(1, folder=tmp_path)
    divided = fit_divided(task, executor, folder=tmp_path, progress=lambda number: None)
    assert_same_bits(numbers(divided), alone)
    monkeypatch.setattr("stages.fit.inputs.IN_MEMORY", 0.0)
    assert_same_bits(numbers(fit_condition(replace(task, memory_limit=10**11))), alone)


def test_what_a_result_depends_on_names_every_source_and_no_path(task):
    one, other = task.combined.sources
    moved = replace(task.combined, sources=(replace(one, path="elsewhere"), other))
    assert replace(task, combined=moved).key == task.key
    nearest = replace(task.combined, resample="nearest")
    changed = replace(task.combined, sources=(one, replace(other, key="0" * 64)))
    keys = {replace(task, combined=each).key for each in (nearest, changed, None)}
    assert len(keys) == 3 and task.key not in keys


def test_tasks_of_other_grids_are_of_other_sizes(task):
    places = replace(of_one(task, 0), places=task.combined.finest.places)
    assert len(one_of_each_size([task, of_one(task, 0), places, task])) == 3

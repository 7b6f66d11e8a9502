"""The default solver on a cache: joint blocks, streaming, workers."""

from dataclasses import replace

import numpy as np
import pytest
from support.tiny import write_experiment

from cache import CacheError, open_cache
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.variant.together import open_variants
from stages.conditions import Condition
from stages.executors.executor import LocalExecutor
from stages.fit.inputs import TaskSource
from stages.fit.run import fit_condition
from stages.fit.schedule import fit_all
from stages.fit.task import FitTask
from stages.readouts.load import load_readouts
from stages.readouts.manifest import saved_attributes
from stages.readouts.saved import save_condition
from stages.readouts.settings import ALSSettings, ReadoutSettings
from stages.scores import variance_explained
from stages.tokens.cached import CachedTokens


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Readouts of blocks 0 and 1, and of both together, on a small cache."""
    path = write_experiment(tmp_path_factory.mktemp("mouse"), n_train=60, n_validation=10)
    assert main(["extract", str(path), "--quiet"]) == 0
    file = load_experiment(path)
    cache = open_cache(file.cache_path(file.variants[0]))
    (recording,) = open_variants(file)[0].recordings

    def task(blocks, tokens="patch"):
        return FitTask(
            condition=Condition(
                recording="mouse", model="vit", input_size="32x64", tokens=tokens,
                block=int(blocks[-1]), blocks=blocks, solver="als",
            ),
            cache_path=cache.path, cache_key=cache.key, weights="random", recording=recording,
            recording_digest="", settings=ReadoutSettings(als=ALSSettings(max_components=12)),
        )  # fmt: skip

    return {name: task(name) for name in ("0", "1", "0+1")} | {"cls": task("1", "cls")}


def same(one, other):
    np.testing.assert_array_equal(one.test_predictions, other.test_predictions)
    for name in ("feve", "val_varexp"):
        np.testing.assert_array_equal(one.columns[name], other.columns[name])


@pytest.mark.parametrize("refit", [True, False])
def test_both_fits_are_saved_and_scores_are_of_the_one_that_was_held_out(tasks, tmp_path, refit):
    """Fine-tuning starts from that one, too."""
    als = ALSSettings(max_components=12, refit=refit)
    task = replace(tasks["1"], settings=ReadoutSettings(als=als))
    fitted = fit_condition(task)
    save_condition(tmp_path, fitted)
    saved = load_readouts(tmp_path)
    attributes = saved_attributes(tmp_path, task.condition.slug)
    assert attributes["fitted_to"] == ("training and validation" if refit else "training")
    assert (saved.unrefitted is not None) == refit
    np.testing.assert_array_equal(saved.bias, fitted.readouts.bias)
    np.testing.assert_array_equal(saved.held_out.bias, fitted.readouts.held_out.bias)
    recording, cache = task.recording, open_cache(task.cache_path)
    held_out = recording.validation
    x = cache.block(1).read("patches", recording.image_ids[held_out])
    scores = variance_explained(recording.responses[held_out], saved.held_out.predict(x))
    np.testing.assert_allclose(fitted.columns["val_varexp"], scores, atol=1e-5)
    test = saved.predict(cache.block(1).read("patches", recording.test_image_ids))
    np.testing.assert_allclose(test, fitted.test_predictions, rtol=1e-4, atol=1e-5)


def test_als_is_the_default():
    assert ReadoutSettings().solver == "als"


def test_workers_agree(tasks, tmp_path):
    chosen = [tasks["0"], tasks["1"], tasks["cls"]]
    alone, together = (
        {
            f.condition: f
            for f in fit_all(chosen, LocalExecutor(n, folder=tmp_path), folder=tmp_path)
        }
        for n in (1, 2)
    )
    assert alone.keys() == together.keys() and len(alone) == 3
    for condition, fitted in alone.items():
        same(fitted, together[condition])


@pytest.mark.parametrize("name", ["1", "0+1", "cls"])
def test_streaming_gives_the_same_numbers(tasks, name, monkeypatch):
    whole = fit_condition(tasks[name])
    reads = []
    monkeypatch.setattr("stages.fit.inputs.IN_MEMORY", 0.0)
    read = CachedTokens.read
    monkeypatch.setattr(
        CachedTokens, "read",
        lambda self, first, last: reads.append(last - first) or read(self, first, last),
    )  # fmt: skip
    same(fit_condition(replace(tasks[name], memory_limit=64 * 10**9)), whole)
    assert len(reads) > 3 and max(reads) <= 60


def test_saved_linear_readouts_are_linear(tasks, tmp_path):
    settings = ReadoutSettings(als=ALSSettings(max_components=12, output="linear"))
    fitted = fit_condition(replace(tasks["1"], settings=settings))
    save_condition(tmp_path, fitted)
    loaded = load_readouts(tmp_path, block=1)
    assert loaded.output == "linear"
    cache = open_cache(tasks["1"].cache_path)
    tokens = cache.block(1).read("patches", fitted.test_image_ids)
    np.testing.assert_allclose(loaded.predict(tokens), fitted.test_predictions, rtol=1e-5)
    save_condition(tmp_path / "elu", fit_condition(tasks["1"]))
    assert load_readouts(tmp_path / "elu", block=1).output == "elu"


def test_joint_blocks_read_both(tasks):
    recording, cache = tasks["1"].recording, open_cache(tasks["1"].cache_path)
    signal = sum(
        cache.block(block).read("patches", recording.image_ids)[:, 0, 0, :2].astype(np.float32)
        for block in (0, 1)
    )
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
    responses = np.maximum(np.tile(signal, recording.n_neurons // 2 + 1) + 1, 0)
    recording = replace(recording, responses=responses[:, : recording.n_neurons])
    both, one = (fit_condition(replace(tasks[of], recording=recording)) for of in ("0+1", "1"))
    assert both.readouts.grid == (2, 4, 96) and one.readouts.grid == (2, 4, 48)
    weights = np.abs(both.readouts.channel_weights)
    assert weights[:, :48].sum() > 0 and weights[:, 48:].sum() > 0
    cache = open_cache(tasks["0"].cache_path)
    ids = tasks["0"].recording.test_image_ids
    tokens = np.concatenate([cache.block(b).read("patches", ids) for b in (0, 1)], axis=-1)
    np.testing.assert_allclose(both.readouts.predict(tokens), both.test_predictions, rtol=1e-5)


def test_order_of_trials_in_the_recording_does_not_matter(tasks):
    recording = tasks["1"].recording
    order = np.random.default_rng(0).permutation(len(recording.image_ids))
    shuffled = replace(
        recording,
        image_ids=recording.image_ids[order],
        responses=recording.responses[order],
        validation=recording.validation[order],
    )
    same(fit_condition(replace(tasks["1"], recording=shuffled)), fit_condition(tasks["1"]))


def test_another_cache_than_the_planned_one_is_refused(tasks):
    other = replace(tasks["1"], cache_key="0" * 64)
    source = TaskSource(other)
    for read in (
        lambda: fit_condition(other),
        lambda: source.size,
        source.training_tokens,
        lambda: source.opened(slice(0, 2)).__enter__(),
    ):
        with pytest.raises(CacheError, match="holds other tokens than before"):
            read()

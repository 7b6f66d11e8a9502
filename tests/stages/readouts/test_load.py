"""Saved readouts, found by their identity, and the tokens that they accept."""

from dataclasses import replace

import numpy as np
import pytest
from support.tiny import write_experiment

from cache import CacheError, UserError, open_cache
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.variant.together import open_variants
from stages.conditions import Condition
from stages.fit.run import fit_condition
from stages.fit.task import FitTask
from stages.readouts.load import load_readouts
from stages.readouts.saved import save_condition
from stages.readouts.settings import ALSSettings, ReadoutSettings


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Fits of block 1, of both blocks, and of CLS tokens, and one that passes for tuned."""
    folder = tmp_path_factory.mktemp("mouse")
    path = write_experiment(folder, n_train=60, n_validation=10)
    assert main(["extract", str(path), "--quiet"]) == 0
    file = load_experiment(path)
    cache = open_cache(file.cache_path(file.variants[0]))
    (recording,) = open_variants(file)[0].recordings
    results = {}
    for tokens, blocks in (("patch", "1"), ("patch", "0+1"), ("cls", "1")):
        fitted = fit_condition(
            FitTask(
                condition=Condition(
                    recording="mouse", model="vit", input_size="32x64", tokens=tokens, block=1,
                    blocks=blocks, solver="als",
                ),
                cache_path=cache.path, cache_key=cache.key, weights="random", recording=recording,
                recording_digest="", settings=ReadoutSettings(als=ALSSettings(max_components=12)),
            )
        )  # fmt: skip
        save_condition(folder / "run", fitted)
        results[tokens, blocks] = fitted
        tuned = replace(fitted.condition, tuning="last2", protocol="matched", seed=len(results))
        save_condition(folder / "run", replace(fitted, condition=tuned))
    return folder / "run", cache, results


@pytest.mark.parametrize("of", [("patch", "1"), ("patch", "0+1"), ("cls", "1")])
def test_predictions_from_the_cache_are_the_saved_ones(run, of):
    folder, cache, results = run
    saved = load_readouts(folder, tuning="frozen", tokens=of[0], blocks=of[1])
    images = results[of].test_image_ids
    rates = saved.predict_from(cache, images)
    np.testing.assert_allclose(rates, results[of].test_predictions, rtol=1e-5)
    np.testing.assert_array_equal(rates[::-1], saved.predict_from(cache, images[::-1].tolist()))
    assert len(saved.predict_from(cache)) == len(cache.image_ids)


def test_tokens_of_another_cache_are_refused(run, tmp_path):
    folder, cache, _ = run
    saved = load_readouts(folder, tuning="frozen", tokens="cls")
    other = write_experiment(tmp_path, n_train=60, n_validation=10)
    assert main(["extract", str(other), "--quiet", "--set", "backbone.seed=1"]) == 0
    file = load_experiment(other)
    with pytest.raises(UserError, match=f"tokens of the cache with key {cache.key}"):
        saved.predict_from(open_cache(file.cache_path(file.variants[0])))


def test_images_that_the_cache_lacks_are_named(run):
    folder, cache, _ = run
    with pytest.raises(CacheError, match="99999"):
        load_readouts(folder, tuning="frozen", tokens="cls").predict_from(cache, [99999])


def test_what_are_no_images_is_refused_and_no_image_is_none(run):
    folder, cache, _ = run
    saved = load_readouts(folder, tuning="frozen", tokens="cls")
    ids = cache.image_ids
    for images in (ids > 5, ids + 0.5, np.ma.masked_less(ids, 9)):
        with pytest.raises(UserError, match=r"^images "):
            saved.predict_from(cache, images)
    assert saved.predict_from(cache, []).shape == (0, len(saved.bias))


@pytest.mark.parametrize("block", [True, 1.0, [1], np.array([1])])
def test_columns_are_named_by_texts_and_whole_numbers(run, block):
    with pytest.raises(UserError, match=r"block = .*whole number"):
        load_readouts(run[0], tuning="frozen", tokens="cls", block=block)


def test_readouts_of_a_tuned_backbone_are_loaded_by_name_only(run):
    folder, cache, _ = run
    for identity in ({}, {"tokens": "patch"}):
        with pytest.raises(UserError, match=r'backbone that was tuned.*load_model.*tokens="tuned"'):
            load_readouts(folder, tuning="last2", seed=1, **identity)
    for tokens in ("tuned", "tuned patch"):
        saved = load_readouts(folder, seed=1, tokens=tokens)
        assert saved.condition.tuning == "last2" and saved.condition.tokens == "patch"
        with pytest.raises(UserError, match="in no cache"):
            saved.predict_from(cache)


def test_arrays_of_a_cache_say_whose_tokens_they_hold(run):
    folder, cache, _ = run
    saved = load_readouts(folder, tuning="frozen", tokens="patch", blocks="1")
    right = cache.block(1).array("patches")
    np.testing.assert_allclose(saved.predict(right), saved.predict_from(cache), rtol=1e-5)
    for block, kind in ((0, "patches"), (1, "cls")):
        with pytest.raises(UserError, match=f"these tokens are {kind} of block {block}"):
            saved.predict(cache.block(block).array(kind))
    with pytest.raises(UserError, match=r"in no cache.*load_model"):
        load_readouts(folder, seed=1, tokens="tuned").predict(right)


def test_the_word_finds_tuned_readouts_alone_and_by_their_kind(run):
    folder, _, _ = run
    assert load_readouts(folder, tokens="tuned cls").condition.seed == 3
    with pytest.raises(UserError, match="3 conditions with tokens='tuned'"):
        load_readouts(folder, tokens="tuned")
    with pytest.raises(UserError, match="no readouts with"):
        load_readouts(folder, tokens="tuned", tuning="frozen")

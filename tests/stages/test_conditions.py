"""Identity of results, and the files they are kept in."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.saved import fitted

from cache import UserError
from pipeline.results.tables import write_if_changed
from stages.conditions import Condition, require_distinct
from stages.readouts.load import load_readouts
from stages.readouts.manifest import saved_attributes
from stages.readouts.saved import save_condition, saved_columns, saved_curve


def test_slugs_are_folder_names_and_differ_with_every_column():
    base = {"recording": "a/b c", "model": "vit", "input_size": "64x128"}
    slugs = {
        Condition(**{**base, **change}).slug
        for change in (
            {}, {"model": "vit2"}, {"input_size": "32x64"}, {"tuning": "last2"},
            {"protocol": "matched"}, {"tokens": "cls"}, {"blocks": "3"}, {"blocks": "3+4"},
            {"solver": "adamw"}, {"seed": 1},
        )
    }  # fmt: skip
    assert len(slugs) == 10
    assert not any("/" in slug or " " in slug for slug in slugs)


def test_saved_conditions_come_back(tmp_path):
    one = fitted()
    save_condition(tmp_path, one)
    assert saved_attributes(tmp_path, one.condition)["key"] == "k"
    assert saved_curve(tmp_path, one.condition) == one.readouts.curve
    columns = saved_columns(tmp_path, one.condition)
    assert columns["neuron"].tolist() == [5, 6] and np.isnan(columns["feve"][0])
    assert set(columns) == {"neuron", "feve"}
    assert load_readouts(tmp_path, block=3).row_weights.shape == (2, 4)
    assert saved_attributes(tmp_path, fitted(block=4).condition) is None


def test_a_refit_replaces_its_own_condition_only(tmp_path):
    save_condition(tmp_path, fitted(block=3))
    save_condition(tmp_path, fitted(block=4))
    save_condition(tmp_path, fitted(block=3, value=2.0, key="new"))
    assert load_readouts(tmp_path, block=3).bias.tolist() == [2, 2]
    assert load_readouts(tmp_path, block=4).bias.tolist() == [1, 1]
    left = sorted(p.name for p in (tmp_path / "results").iterdir())
    assert left == ["manifests", "predictions.zarr", "readouts.zarr"]


def test_an_interrupted_save_keeps_the_old_condition(tmp_path, monkeypatch):
    save_condition(tmp_path, fitted())

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_condition(tmp_path, fitted(value=2.0, key="new"))
    attributes = saved_attributes(tmp_path, fitted().condition)
    assert attributes is None or attributes["key"] == "k"
    save_condition(tmp_path, fitted(value=2.0, key="new"))
    assert load_readouts(tmp_path).bias.tolist() == [2, 2]


def test_files_are_written_whole_and_only_when_new(tmp_path):
    path = tmp_path / "deep" / "file"
    write_if_changed(path, b"one")
    before = path.stat().st_mtime_ns
    write_if_changed(path, b"one")
    assert path.stat().st_mtime_ns == before
    write_if_changed(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("null", [None, float("nan"), np.float64("nan"), pd.NA, ""])
def test_a_condition_is_read_from_a_row_of_any_table(null):
    vit = fitted(block=4, seed=2).condition
    texts = {name: "" if v is None else str(v) for name, v in vit.identity().items()}
    numbers = {"block": 4.0, "seed": np.int64(2)}  # as pandas has them beside null blocks
    for row in (vit.identity(), texts, vit.identity() | numbers | {"mean_feve": 0.5}):
        read = Condition.from_row(row)
        assert read == vit and {type(read.block), type(read.seed)} == {int}
    cnn = {"recording": "r", "model": "cnn_fullmodel", "input_size": "64x128", "tuning": "full"}
    absent = dict.fromkeys(("protocol", "tokens", "block", "blocks", "solver"), null)
    assert Condition.from_row(cnn | absent | {"seed": "0"}) == Condition(**cnn)
    with pytest.raises(KeyError):
        Condition.from_row(cnn)


@pytest.mark.parametrize(
    ("one", "other"), [("mouse 1", "mouse_1"), ("Mouse", "mouse"), ("\u212b", "\u00c5")]
)
def test_names_that_one_folder_cannot_keep_apart_are_refused(one, other):
    conditions = [Condition(recording=name, model="vit", input_size="9x9") for name in (one, other)]
    with pytest.raises(UserError, match="would both be stored under") as error:
        require_distinct({str(each): each.slug for each in conditions})
    assert repr(one) in str(error.value) and repr(other) in str(error.value)


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=2, max_size=4))
def test_whatever_is_accepted_has_files_of_its_own(pairs):
    conditions = {Condition(recording=a, model=b, input_size="9x9") for a, b in pairs}
    try:
        require_distinct({str(each): each.slug for each in conditions})
    except UserError:
        return
    names = {each.slug.lower() for each in conditions}
    assert len(names) == len(conditions)
    assert all(len(name.encode()) <= 200 and "/" not in name for name in names)


def test_a_name_too_long_for_a_file_is_refused():
    long = Condition(recording="é" * 120, model="vit", input_size="9x9")
    with pytest.raises(UserError, match="shorter name"):
        require_distinct({str(long): long.slug})

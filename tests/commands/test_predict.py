"""`vitv1 predict`: rates of new images in a file, and what is refused before anything is done."""

import numpy as np
import pandas as pd
import pytest
import zarr

from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.predict import best_condition
from pipeline.results.tables import read_neurons
from stages import load_model


@pytest.fixture(scope="module")
def run(tuned_run):
    return load_experiment(tuned_run).output


def predict(*arguments):
    return main(["predict", *map(str, arguments)])


def test_every_ending_holds_the_same_rates(run, tuned_run, tmp_path):
    images, asked = tuned_run.parent / "mouse", ("--tuning", "last1", "--quiet")
    for name in ("out.npz", "out.zarr", "out.parquet"):
        assert predict(run, images, tmp_path / name, *asked) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npz", "out.parquet", "out.zarr"]
    npz, group = (
        np.load(tmp_path / "out.npz"),
        zarr.open_group(str(tmp_path / "out.zarr"), mode="r"),
    )
    table = pd.read_parquet(tmp_path / "out.parquet").pivot(
        index="image", columns="neuron", values="rate"
    )
    for name in ("rates", "image", "neuron"):
        np.testing.assert_array_equal(npz[name], group[name][:])
    np.testing.assert_array_equal(table.to_numpy(), npz["rates"])
    np.testing.assert_array_equal(table.index, npz["image"])
    saved = zarr.open_group(str(run / "results/predictions.zarr"), mode="r")
    (own,) = [name for name in saved if "-last1-" in name]
    rows = np.searchsorted(npz["image"], saved[own]["image"][:])
    np.testing.assert_allclose(npz["rates"][rows], saved[own]["test"][:], rtol=5e-3, atol=5e-3)


def test_validation_chooses(run):
    table = read_neurons(run)
    means = table[table["fev"] > 0.15].groupby("tuning")["val_varexp"].mean()
    best = best_condition(run, {"block": 1, "tokens": "patch"})
    assert means[best.tuning] == pytest.approx(
        table[(table["fev"] > 0.15) & (table["block"] == 1) & (table["tokens"] == "patch")]
        .groupby("tuning")["val_varexp"].mean().max()
    )  # fmt: skip
    assert load_model(run, **best.identity()).readouts.condition == best


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{run}", "{images}", "out.txt"), "ends in .npz, .zarr, .parquet"),
        (("{run}", "{images}", "there.npz"), "is there already"),
        (("{run}", "absent", "out.npz"), "no such file or folder of images"),
        (("absent", "{images}", "out.npz"), "has no results"),
        (("{run}", "{images}", "out.npz", "--tuning", "last7"), "it has frozen, last0"),
        (("{run}", "other.npy", "out.npz"), "other.npy"),
    ],
)
def test_it_is_refused_early(run, tuned_run, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").touch()
    (tmp_path / "other.npy").write_bytes(b"no image")
    before = sorted(tmp_path.rglob("*"))
    names = {"run": run, "images": tuned_run.parent / "mouse"}
    assert predict(*(each.format(**names) for each in arguments)) == 2
    err = capsys.readouterr().err.strip()
    assert said in err and "\n" not in err
    assert sorted(tmp_path.rglob("*")) == before

"""`vitv1 fit` from a packed file or a URL: same results, about one block's bytes, no secrets."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from servers import nginx, s3
from tiny import write_experiment

from cache import open_cache
from cache.copying import plan_copy
from cache.layout import TokenShape, plan_layout
from cache.packed import TAIL
from cache.packing import pack
from cache.pull import pull
from cache.writer import write_cache
from pipeline.cli import main
from pipeline.experiment import load_experiment
from pipeline.fitting import fit_experiment
from pipeline.results import write_tables
from pipeline.sources import Sources
from pipeline.terminal import Terminal
from stages.preprocessing import Preprocessing
from stages.token_settings import token_settings
from stages.weights import random_identity

SHAPE = TokenShape(n_blocks=12, grid=(2, 4), n_channels=96, n_registers=4, dtype="float16")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """An experiment whose cache holds noise, written without a backbone."""
    path = write_experiment(tmp_path_factory.mktemp("mouse"), n_train=80, n_validation=10)
    file = load_experiment(path)
    (variant,) = file.variants
    sources = Sources(variant)
    assert sources.digest is not None and sources.crop is not None
    ids = sources.required_stimuli().ids
    settings = token_settings(
        variant.backbone,
        n_blocks=SHAPE.n_blocks,
        weights=random_identity(variant.backbone),
        preprocessing=Preprocessing(
            crop=sources.crop, input_size=variant.stimuli.size, mean=(0.5,) * 3, std=(0.2,) * 3
        ),
        images=sources.digest,
        dtype=SHAPE.dtype,
    )
    rng = np.random.default_rng(0)
    with write_cache(
        Path(file.cache_path(variant)),
        settings=settings,
        provenance={"weights": "random"},
        image_ids=ids,
        shape=SHAPE,
        layout=plan_layout(SHAPE, n_images=len(ids), chunk_bytes=2**15, shard_bytes=2**20),
    ) as writer:
        for shard in writer.missing_shards():
            n = len(writer.shard_ids(shard))
            writer.write_shard(
                shard,
                [
                    {k: rng.standard_normal((n, *SHAPE.item(k))) for k in SHAPE.kinds()}
                    for _ in range(SHAPE.n_blocks)
                ],
            )
        writer.finish()
    pack(plan_copy(open_cache(file.cache_path(variant))), path.parent / "features.zarr.zip")
    return path


def local(experiment: Path) -> Path:
    file = load_experiment(experiment)
    return Path(file.cache_path(file.variants[0]))


def options(output: Path, cache: str, *, blocks: str = "[4]") -> list[str]:
    settings = {
        "cache.path": cache,
        "run.output": output,
        "readout.blocks": blocks,
        "readout.tokens": '["patch"]',
    }
    return [f"{name}={value}" for name, value in settings.items()]


def fit(experiment: Path, output: Path, cache: str) -> pd.DataFrame:
    """Results of every neuron; what `vitv1 fit` does but for figures."""
    file = load_experiment(experiment, options(output, cache))
    write_tables(output, fit_experiment(file, Terminal(quiet=True)))
    return pd.read_parquet(output / "results/neurons.parquet")


def command(experiment: Path, output: Path, cache: str, *, blocks: str = "[4]") -> int:
    changed = [f"--set={option}" for option in options(output, cache, blocks=blocks)]
    return main(["fit", str(experiment), "--quiet", *changed])


@pytest.fixture(scope="module")
def expected(experiment, tmp_path_factory) -> pd.DataFrame:
    return fit(experiment, tmp_path_factory.mktemp("local"), str(local(experiment)))


@pytest.fixture(scope="module")
def web(experiment, tmp_path_factory):
    with nginx(tmp_path_factory.mktemp("web")) as server:
        shutil.copytree(local(experiment), server.files / "features.zarr")
        shutil.copy(experiment.parent / "features.zarr.zip", server.files)
        yield server


def test_a_packed_file_gives_the_same_results(experiment, expected, tmp_path):
    results = fit(experiment, tmp_path, str(experiment.parent / "features.zarr.zip"))
    pd.testing.assert_frame_equal(results, expected)


@pytest.mark.parametrize("name", ["features.zarr", "features.zarr.zip"])
@pytest.mark.parametrize("place", ["http", "s3"])
def test_a_remote_fit_of_one_block_transfers_about_that_block(
    place, name, experiment, expected, web, tmp_path, monkeypatch
):
    whole = plan_copy(open_cache(str(local(experiment)))).n_bytes
    block = plan_copy(open_cache(str(local(experiment))), blocks=[4], kinds=["patches"]).n_bytes
    if place == "http":
        web.requests()
        results = fit(experiment, tmp_path, web.url(name))
        asked = web.requests()
    else:
        with s3(monkeypatch) as bucket:
            bucket.upload(web.files / name, name)
            results = fit(experiment, tmp_path, f"s3://lab/{name}")
            asked = bucket.requests()
    sent = sum(request.bytes for request in asked)
    print(f"{place} {name}: {sent} bytes for {block} of {whole}, {len(asked)} requests")
    # Beyond the block: metadata, twice, and for a packed file its directory.
    assert (
        block < sent < 1.1 * block + 20_000 + 2 * TAIL * name.endswith(".zip")
        and block < whole / 12
    )
    pd.testing.assert_frame_equal(results, expected)


def test_a_pulled_part_gives_the_same_results_and_names_the_way_to_the_rest(
    experiment, expected, tmp_path, capsys
):
    pull(plan_copy(open_cache(str(local(experiment))), blocks=[4]), tmp_path / "part.zarr")
    results = fit(experiment, tmp_path / "run", str(tmp_path / "part.zarr"))
    pd.testing.assert_frame_equal(results, expected)
    part = str(tmp_path / "part.zarr")
    assert command(experiment, tmp_path / "more", part, blocks="all") == 2
    assert "vitv1 cache pull" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()


def test_credentials_reach_neither_results_nor_messages(experiment, web, tmp_path, capsys, caplog):
    caplog.set_level("DEBUG", logger="pipeline")
    url = web.url("features.zarr?signature=s3cr3t", location="private", user="lab:s3cr3t@")
    assert command(experiment, tmp_path, url) == 0
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert command(experiment, tmp_path, url) == 0  # Up to date: provenance compares as stored.
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert command(experiment, tmp_path / "b", url, blocks="[14]") == 2
    assert command(experiment, tmp_path / "c", url.replace("features", "absent")) == 2
    for more in ([], ["--json"]):
        assert main(["cache", "info", url, *more]) == 0
    assert main(["cache", "pull", url, str(tmp_path / "p.zarr"), "--blocks", "4"]) == 0
    assert main(["cache", "verify", url, "--quick"]) == 0
    assert main(["extract", str(experiment), f"--set=cache.path={url}"]) == 2
    assert main(["run", str(experiment), f"--set=cache.path={url.replace('feat', 'f')}"]) == 2
    printed = capsys.readouterr()
    assert "s3cr3t" not in printed.out + printed.err + caplog.text
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes(), path
    stored = json.loads((tmp_path / "provenance.json").read_text())
    assert web.url("features.zarr", location="private") in stored["caches"]
    assert stored["settings"]["cache"]["path"] == web.url("features.zarr", location="private")


def test_a_sweep_looks_below_the_url(experiment):
    file = load_experiment(
        experiment,
        ["cache.path=https://lab:x@host/caches?sig=1", "stimuli.upsample=[1, 2]"],
    )
    assert [file.cache_path(variant) for variant in file.variants] == [
        f"https://lab:x@host/caches/features-vit_small_patch16_dinov3-{size}.zarr?sig=1"
        for size in ("32x64", "64x128")
    ]

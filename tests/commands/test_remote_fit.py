"""`vitv1 fit` from a packed file or a URL: same results, about one block's bytes, no secrets."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from support.noise_runs import fit, local, options, write_noise_experiment
from support.servers import nginx, s3

from cache import open_cache, plan_copy, pull
from cache.stores.zip import TAIL
from pipeline.cli.main import main
from pipeline.experiment import load_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    return write_noise_experiment(tmp_path_factory.mktemp("mouse"))


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

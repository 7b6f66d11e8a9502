"""`[cache] local_copy`: what is read from a URL is kept, and a second run reads no network."""

from pathlib import Path

import pandas as pd
import pytest
from support.noise_runs import fit, local, write_noise_experiment
from support.runs import run_stage
from support.servers import nginx

from cache import CacheError, UserError, open_cache, plan_copy, verify
from pipeline.experiment import load_experiment
from pipeline.variant.inputs import Inputs
from pipeline.variant.local_copy import Located

URL = "features.zarr"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    return write_noise_experiment(tmp_path_factory.mktemp("mouse"))


@pytest.fixture(scope="module")
def web(experiment, tmp_path_factory):
    import shutil

    with nginx(tmp_path_factory.mktemp("web")) as server:
        shutil.copytree(local(experiment), server.files / URL)
        yield server


def run(file: Path, output: Path, cache: str, copies: Path, blocks: str) -> pd.DataFrame:
    options = {
        "cache.path": cache,
        "cache.local_copy": copies,
        "run.output": output,
        "readout.blocks": blocks,
        "readout.tokens": '["patch"]',
    }
    loaded = load_experiment(file, [f"{name}={value}" for name, value in options.items()])
    run_stage(loaded, "fit")
    return pd.read_parquet(output / "results/neurons.parquet")


def test_only_what_is_asked_travels_and_only_once(experiment, web, tmp_path, no_figures):
    source = open_cache(str(local(experiment)))
    sizes = {
        blocks: plan_copy(source, blocks=blocks, kinds=["patches"]).n_bytes
        for blocks in [(4,), (6,)]
    }
    expected = fit(experiment, tmp_path / "local", str(local(experiment)))
    web.requests()
    url, copies = web.url(URL), tmp_path / "copies"
    first = run(experiment, tmp_path / "a", url, copies, "[4]")
    pd.testing.assert_frame_equal(first, expected)
    sent = sum(request.bytes for request in web.requests())
    assert sizes[4,] < sent < 1.2 * sizes[4,] + 30_000
    again = run(experiment, tmp_path / "b", url, copies, "[4]")
    pd.testing.assert_frame_equal(again, expected)
    assert not web.requests()
    run(experiment, tmp_path / "c", url, copies, "[4, 6]")
    sent = sum(request.bytes for request in web.requests())
    assert sizes[6,] < sent < 1.2 * sizes[6,] + 30_000
    (copy,) = copies.glob("*.zarr")
    assert open_cache(str(copy)).blocks == [4, 6] and not verify(copy).faults
    assert open_cache(str(copy)).key == source.key
    run(experiment, tmp_path / "d", url, copies, "[6]")
    assert not web.requests()


@pytest.mark.parametrize("fault", ["connection", "killed"])
def test_a_failed_extension_leaves_the_copy(
    experiment, web, tmp_path, monkeypatch, no_figures, fault
):
    """What was copied is read again without a network."""
    url, copies = web.url(URL), tmp_path / "copies"
    first = run(experiment, tmp_path / "a", url, copies, "[4]")
    (copy,) = copies.glob("*.zarr")

    class Killed(BaseException):
        pass

    def fail(*_):
        raise Killed if fault == "killed" else CacheError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr("cache.share.pull._Pull._read", fail)
        with pytest.raises((CacheError, Killed)):
            run(experiment, tmp_path / "b", url, copies, "[4, 6]")
    assert open_cache(str(copy)).blocks == [4] and not verify(copy).faults
    web.requests()
    again = run(experiment, tmp_path / "c", url, copies, "[4]")
    pd.testing.assert_frame_equal(again, first)
    assert not web.requests()


def test_a_copy_has_what_combined_readouts_read_of_it(experiment, tmp_path):
    """Blocks of its own backbone that one readout reads with those of another, and their kind."""
    changes = [
        "readout.blocks=[4]",
        'readout.tokens=["patch"]',
        'readout.combine=[{sources=["mine:-1", "mine:2", "other:7"], tokens="cls"}]',
    ]
    (settings,) = load_experiment(experiment, changes).variants
    located = Located(settings, URL, model="mine", everything=False, inputs=Inputs(settings))
    cache = open_cache(str(local(experiment)))
    assert located._wanted(cache) == ({2, 4, 11}, {"patches", "cls"})


def test_a_local_cache_has_no_local_copy(experiment, tmp_path):
    with pytest.raises(UserError, match=r"cache.local_copy = .* on this machine already"):
        run(experiment, tmp_path, str(local(experiment)), tmp_path / "copies", "[4]")

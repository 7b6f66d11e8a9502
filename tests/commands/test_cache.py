"""`vitv1 cache verify` and `vitv1 cache repair`: what is printed, and the exit codes."""

from pathlib import Path

import numpy as np
import pytest
from support.runs import only_variant
from support.tiny import write_experiment
from support.trials import small_disk

from cache import open_cache
from pipeline.cli.main import main


@pytest.fixture
def experiment(tmp_path):
    return str(write_experiment(tmp_path))


@pytest.fixture
def store(experiment, tmp_path, capsys):
    assert main(["extract", experiment, "--quiet"]) == 0
    capsys.readouterr()
    return tmp_path / "runs/features.zarr"


def flip(path: Path, position: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def files(store):
    return {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def test_a_sound_cache_is_one_line_and_0(store, capsys):
    assert main(["cache", "verify", str(store)]) == 0
    assert capsys.readouterr().out == f"{store}: fine: every byte of 3 blocks, 19 images\n"
    assert main(["cache", "verify", str(store), "--quick"]) == 0
    assert "metadata, completeness and sizes of 3 blocks" in capsys.readouterr().out


def test_faults_are_a_line_each_and_1(store, capsys):
    flip(store / "blocks/01/patches/c/0/0/0/0")
    flip(store / "image/c/0", 3)
    assert main(["cache", "verify", str(store)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "image (image/c/0): its bytes do not match their checksum",
        "block 1, patches (blocks/01/patches/c/0/0/0/0): its bytes do not match their checksum",
    ]
    assert "vitv1 cache repair EXPERIMENT.toml" in err


@pytest.mark.parametrize("path", ["none", "https:/none", ""])
def test_no_cache_is_2(path, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["cache", "verify", path or str(tmp_path)]) == 2
    assert "no feature cache there" in capsys.readouterr().err


def test_repair_extracts_the_damaged_shard_only(store, experiment, capsys):
    flip(store / "blocks/01/cls/c/0/0")
    damaged = files(store)
    assert main(["cache", "repair", experiment]) == 0
    out, err = capsys.readouterr()
    assert out == f"{store}: 1 shard extracted again; fine now\n" and "19 images extracted" in err
    assert files(store) != damaged
    assert (
        main(["cache", "verify", str(store), "--recompute", "19", "--experiment", experiment]) == 0
    )


def test_repair_rewrites_a_lost_root_and_extracts_nothing(store, experiment, capsys):
    key = open_cache(store).key
    (store / "zarr.json").unlink()
    tokens = files(store / "blocks/01/patches/c")
    assert main(["cache", "repair", experiment]) == 0
    assert "zarr.json: written anew\n" in capsys.readouterr().out
    assert open_cache(store).key == key and files(store / "blocks/01/patches/c") == tokens


def test_repair_leaves_a_persons_files_and_says_so(store, experiment, capsys):
    (store / "notes.txt").write_text("mine")
    assert main(["cache", "repair", experiment]) == 1
    assert "notes.txt: is not part of the cache: delete it" in capsys.readouterr().out


def test_repair_needs_the_experiment_that_made_it(store, experiment, capsys):
    flip(store / "blocks/01/cls/c/0/0")
    assert main(["cache", "repair", experiment, "--set", "backbone.seed=5"]) == 2
    err = capsys.readouterr().err
    assert "weights.seed: 5 here, 0 there" in err and "the experiment that made it" in err


def test_recomputed_images_agree(store, experiment, capsys):
    verify = ["cache", "verify", str(store), "--recompute", "7", "--experiment", experiment]
    assert main(verify) == 0
    assert capsys.readouterr().out.endswith("19 images; 7 images recomputed\n")


def test_recomputing_finds_tokens_that_were_never_the_backbones(store, experiment, capsys):
    """A cache that is whole, and whose every checksum is right, of other tokens."""
    from cache import plan_layout, write_cache
    from pipeline.run.extract import prepare

    made = prepare(only_variant(Path(experiment)))
    shape, other = made.backbone.token_shape("float16"), store.with_name("other.zarr")
    true = open_cache(store)
    with write_cache(
        other,
        settings=made.settings,
        provenance={},
        image_ids=made.stimuli.ids,
        image_sha256=made.images.hashes,
        shape=shape,
        layout=plan_layout(shape, n_images=19),
    ) as writer:
        blocks = [true.block(b) for b in true.blocks]
        tokens = [{kind: b.read(kind, true.image_ids) for kind in true.kinds} for b in blocks]
        tokens[2]["cls"][4] *= np.float16(1.01)
        writer.write_shard(0, tokens)
        writer.finish()
    assert main(["cache", "verify", str(other)]) == 0
    capsys.readouterr()
    command = ["cache", "verify", str(other), "--recompute", "19", "--experiment", experiment]
    assert main(command) == 1
    (fault,) = capsys.readouterr().out.splitlines()
    image = true.image_ids[4]
    assert fault.startswith(f"block 2, cls, images {image}..{image} (blocks/02/cls): differs from")


def test_recomputing_needs_an_experiment(store, experiment, capsys):
    assert main(["cache", "verify", str(store), "--recompute", "2"]) == 2
    assert "add --experiment FILE" in capsys.readouterr().err
    verify = ["cache", "verify", str(store), "--recompute", "2", "--experiment", experiment]
    assert main([*verify, "--set", "backbone.seed=1"]) == 2
    assert "holds other tokens than" in capsys.readouterr().err


def test_a_full_disk_is_1_and_one_line(experiment, tmp_path, capsys):
    try:
        with small_disk(tmp_path / "disk", 100_000) as disk:
            path = f"cache.path={disk}/c.zarr"
            assert main(["extract", experiment, "--set", path, "--quiet"]) == 1
            err = capsys.readouterr().err
            assert err.startswith("vitv1: no space left on the disk") and err.count("\n") == 1
    except PermissionError as why:
        pytest.skip(f"a small disk takes root: {why}")

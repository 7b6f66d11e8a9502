"""`vitv1 cache info`, `pack` and `pull` as a person runs them."""

import json
import re
from pathlib import Path

import pytest
from support.faults import SHAPE, content, make_store, settings
from support.servers import nginx

from cache import open_cache
from pipeline.cli.main import main


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(
        tmp_path_factory.mktemp("local") / "a.zarr",
        settings={**settings(), "images": {"count": 21, "sha256": "cd", "crc32": "A" * 500}},
        provenance={"user": "ada", "versions": {"torch": "2.15.0"}},
    )


def test_info_says_what_a_cache_is(store, capsys):
    assert main(["cache", "info", str(store)]) == 0
    text = capsys.readouterr().out
    key = open_cache(str(store)).key
    for told in (key, "ada", "2.15.0", "2 of 2", "21", "tiny", "registers"):
        assert told in text
    assert "AAAA" not in text


def test_info_as_json_from_anywhere(store, tmp_path, capsys):
    assert main(["cache", "pack", str(store), str(tmp_path / "a.zarr.zip"), "--quiet"]) == 0
    capsys.readouterr()
    told = {}
    with nginx(tmp_path) as web:
        (tmp_path / "a.zarr.zip").rename(web.files / "a.zarr.zip")
        for place in (str(store), str(web.files / "a.zarr.zip"), web.url("a.zarr.zip")):
            assert main(["cache", "info", place, "--json"]) == 0
            told[place] = json.loads(capsys.readouterr().out)
            assert told[place].pop("path") == place
    first, *others = told.values()
    assert all(info == first for info in others)
    assert first["complete"] and first["shards"] == {"total": 3, "missing": 0}
    on_disk = {path: len(data) for path, data in content(store).items()}
    for block, kinds in first["blocks"].items():
        for kind, size in kinds.items():
            folder = f"blocks/{int(block):02d}/{kind}/c/"
            assert size == sum(n for path, n in on_disk.items() if path.startswith(folder))
    tokens = {p: n for p, n in on_disk.items() if p.startswith("blocks/") and "/c/" in p}
    assert (first["bytes"], first["files"]) == (sum(tokens.values()), len(tokens))
    assert first["arrays"]["patches"]["shape"] == [21, *SHAPE.item("patches")]
    assert first["settings"]["images"] == {"count": 21, "sha256": "cd"}
    assert first["provenance"]["versions"] == {"torch": "2.15.0"}


def test_info_of_an_unfinished_and_of_a_partial_cache(store, tmp_path, capsys):
    make_store(tmp_path / "half.zarr", stop_after=1)
    assert main(["cache", "info", str(tmp_path / "half.zarr")]) == 0
    assert "2 of 3 shards missing" in capsys.readouterr().out
    part = str(tmp_path / "p.zarr")
    assert main(["cache", "pull", str(store), part, "--blocks", "-1", "--tokens", "patch"]) == 0
    assert re.search(r"blocks 1: patches; every chunk checked", capsys.readouterr().out)
    assert main(["cache", "info", part, "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["n_blocks"] == 2 and list(info["blocks"]) == ["1"]
    assert list(info["blocks"]["1"]) == ["patches"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["info", "{folder}/absent"], "no feature cache there"),
        (["info", "{folder}"], "no feature cache there"),
        (["pack", "{store}", "{folder}/a.tar"], "ends in .zarr.zip"),
        (["pack", "{folder}/absent", "{folder}/a.zip"], "no feature cache there"),
        (["pull", "{store}", "{folder}/b", "--blocks", "one"], "'one' is no block number"),
        (["pull", "{store}", "{folder}/b", "--blocks", "7"], "block 7 of 2"),
        (["pull", "{store}", "{folder}/b", "--tokens", "patches"], "choose from"),
        (["pull", "{store}", "https://lab.example/b"], "is a URL, and nothing is written there"),
        (["pack", "{store}", "s3://K:S@lab/b.zip"], "s3://lab/b.zip is a URL, and nothing"),
        (["pull", "http://127.0.0.1:1/a.zarr", "{folder}/b"], "cannot reach 127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(store, tmp_path, capsys, arguments, problem):
    filled = [text.format(folder=tmp_path, store=store) for text in arguments]
    assert main(["cache", *filled]) == 2
    told = capsys.readouterr()
    assert problem in told.err and told.err.count("\n") == 1 and not told.out
    assert not [path for path in Path(tmp_path).iterdir() if path.suffix != ".lock"]

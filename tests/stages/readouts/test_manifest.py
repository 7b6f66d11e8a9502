"""Manifests: which bytes belong to a result, and what is said of others."""

import json
import re
import shutil
from pathlib import Path

import pytest

from cache import UserError
from stages.readouts.manifest import damage, manifest_path, require_intact, write_manifest


@pytest.fixture
def run(tmp_path):
    for name in ("group/a", "group/deep/b", "table"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    write_manifest(tmp_path, "one", "key", ["group", tmp_path / "table"])
    return tmp_path


def test_what_was_written_is_intact(run):
    content = json.loads(manifest_path(run, "one").read_text())
    assert content["key"] == "key" and set(content["files"]) == {"group/a", "group/deep/b", "table"}
    assert damage(run, "one", ["group"]) is None
    assert damage(run, "unknown") is None
    require_intact(run, "one", "table")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("group/a", b"group/b", "group/a changed on disk"),
        ("group/deep/b", b"", "group/deep/b changed on disk"),
        ("group/deep/b", None, "group/deep/b is gone"),
        ("group/c", b"", "group/c was added"),
        ("results/manifests/one.json", b"{}", "results/manifests/one.json changed on disk"),
        ("results/manifests/one.json", b"\xff", "results/manifests/one.json changed on disk"),
    ],
)
def test_every_difference_is_named(run, name, content, said):
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content)
    assert damage(run, "one", ["group"]) == said
    with pytest.raises(UserError, match=f"{said}: vitv1 run makes it again"):
        require_intact(run, "one", "group")
    if name.startswith("group"):
        require_intact(run, "one", "table")


def test_a_manifest_of_something_else_is_damage(run):
    shutil.copy(manifest_path(run, "one"), manifest_path(run, "two"))
    assert damage(run, "two") == "results/manifests/two.json changed on disk"


def test_a_flipped_bit_in_a_manifest_is_seen(run):
    path = manifest_path(run, "one")
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert damage(run, "one", ["group"]) is not None


def test_a_run_is_named_from_the_working_directory(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    here = Path(run.name)
    write_manifest(here, "here", None, [here / "group", "table"])
    assert damage(here, "here", ["group"]) is None
    (run / "table").unlink()
    assert damage(run, "here", ["group"]) == "table is gone"


def test_the_check_that_the_format_shows(run):
    """It needs nothing of this package, and names what `damage` names."""
    text = (Path(__file__).parents[3] / "cache/FORMAT.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.M)
    names: dict = {}
    exec(block, names)
    assert list(names["faults"](run)) == []
    (run / "group/a").write_text("b")
    (run / "table").unlink()
    assert list(names["faults"](run)) == ["group/a", "table"]
    manifest = manifest_path(run, "one")
    manifest.write_text(manifest.read_text().replace('"key": "key"', '"key": "kez"'))
    assert next(iter(names["faults"](run))) == "results/manifests/one.json"

"""A cache of a format that is not known yet, at the command line."""

from support.faults import make_store
from support.tuning_runs import refused

from cache.format.metadata import parse, root_bytes


def test_a_cache_of_a_newer_format_is_refused_in_one_line(tmp_path, capsys):
    store = make_store(tmp_path / "c.zarr")
    attributes = parse((store / "zarr.json").read_bytes(), where="")["attributes"]
    (store / "zarr.json").write_bytes(root_bytes({**attributes, "format_version": 3}))
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    for command in (["info"], ["pack", str(store), str(tmp_path / "c.zarr.zip")]):
        arguments = command[1:] or [str(store)]
        said = refused(capsys, "cache", command[0], *arguments)
        assert "has cache format 3" in said and "install the newest vitv1" in said
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before
    assert not (tmp_path / "c.zarr.zip").exists()

"""Nothing is deleted, overwritten or cut that is not ours; links are followed once, or refused."""

import re
import shutil
from functools import partial

import pytest
from support.faults import IDS, SHAPE, content, make_store, settings

from cache import (
    CacheError,
    ShardWriter,
    beside,
    open_cache,
    pack,
    plan_copy,
    prepare_repair,
    pull,
    replaced,
    verify,
)
from cache.write.lock import writer_lock

OTHER = settings(dtype="float16", precision="bfloat16")
SUFFIXES = ("old", "new", "part", "part-1", "partial", "partial.zip")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("cache.write.atomic._sync", lambda path: None)


@pytest.fixture
def thesis(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.tex").write_text("three years")
    return tmp_path / "thesis"


def repair(store):
    ids = {"image_ids": IDS, "shape": SHAPE}
    return prepare_repair(store, settings=settings(), provenance={}, **ids)


def plan(source):
    return plan_copy(open_cache(str(source)))


def test_backups_beside_a_store_are_left_alone(tmp_path):
    """Other people's names: those of a backup, of another program, of an earlier version."""
    store = make_store(tmp_path / "c.zarr")
    shutil.copytree(store, tmp_path / "d.zarr.partial")
    for suffix in SUFFIXES:
        shutil.copytree(store, tmp_path / f"c.zarr.{suffix}")
        (tmp_path / f"c.zarr.{suffix}/notes.txt").write_text("mine")
    before = content(tmp_path)
    make_store(store)
    pull(plan(store), tmp_path / "d.zarr")
    pack(plan(store), tmp_path / "d.zip")
    make_store(store, settings=OTHER, replace=True)
    after = content(tmp_path)
    assert all(after[name] == before[name] for name in before if not name.startswith("c.zarr/"))


@pytest.mark.parametrize("what", ["link", "folder"])
@pytest.mark.parametrize("suffix", SUFFIXES[:-1])
def test_even_under_our_names_nothing_foreign_goes(tmp_path, thesis, what, suffix):
    store = make_store(tmp_path / "c.zarr")
    place, work = tmp_path / f"d.zarr.vitv1-{suffix}", tmp_path / "d.zarr"
    if what == "link":
        place.symlink_to(thesis)
    else:
        thesis.rename(place)
    before = content(tmp_path)
    source = plan(store)
    again = partial(pull, source) if suffix == "partial" else make_store
    with pytest.raises(CacheError, match=rf"{re.escape(str(place))}.*: move it elsewhere"):
        again(work)
    after = content(tmp_path)
    assert {name: after.get(name) for name in before} == before


def test_a_foreign_file_among_ours_stops_a_replacement_and_a_pull(tmp_path):
    store = make_store(tmp_path / "c.zarr")
    (store / "blocks/notes.txt").write_text("mine")
    before = content(store)
    with pytest.raises(CacheError, match=r"notes\.txt is no part of a feature cache.*move it"):
        make_store(store, settings=OTHER, replace=True)
    assert content(store) == before and not verify(tmp_path / "c.zarr").faults[1:]
    shutil.copytree(store, tmp_path / "d.zarr.vitv1-partial")
    with pytest.raises(CacheError, match=r"notes\.txt is no part of a feature cache"):
        pull(plan(store), tmp_path / "d.zarr")
    assert content(tmp_path / "d.zarr.vitv1-partial") == before


@pytest.mark.parametrize("what", ["link", "hard link", "file", "folder"])
def test_what_is_no_lock_of_ours_is_not_cut(tmp_path, thesis, what):
    lock, text = tmp_path / "c.zarr.lock", thesis / "thesis.tex"
    if what == "link":
        lock.symlink_to(text)
    elif what == "hard link":
        lock.hardlink_to(text)
    elif what == "file":
        lock.write_bytes(text.read_bytes())
    else:
        shutil.copytree(thesis, lock)
    before = content(tmp_path)
    with (
        pytest.raises(CacheError, match=r"c\.zarr\.lock is no lock of vitv1.*: move it elsewhere"),
        writer_lock(tmp_path / "c.zarr"),
    ):
        pass
    assert content(tmp_path) == before and lock.is_symlink() == (what == "link")


def test_a_temporary_that_is_a_link_does_not_cut_its_target(tmp_path, thesis):
    (tmp_path / "own").symlink_to(thesis / "thesis.tex")
    with replaced(tmp_path / "a", temporary=tmp_path / "own") as file:
        file.write(b"content")
    assert content(tmp_path) == {"a": b"content", "thesis/thesis.tex": b"three years"}


@pytest.mark.parametrize("link", ["blocks", "blocks/01", "blocks/01/cls/c"])
@pytest.mark.parametrize("work", ["extraction", "repair"])
def test_a_linked_folder_in_a_store_is_not_written_through(tmp_path, link, work):
    other = make_store(tmp_path / "other.zarr")
    store = make_store(tmp_path / "c.zarr", stop_after=1 if work == "extraction" else None)
    shutil.rmtree(store / link)
    (store / link).symlink_to(other / link)
    # What a repair would delete and write again.
    (other / "blocks/01/cls/c/1/0").write_bytes(b"damaged")
    before = content(other)
    again = make_store if work == "extraction" else repair
    with pytest.raises(CacheError, match=rf"{link} is a link, which no cache has"):
        again(store)
    assert content(other) == before


# A store reached through a link


@pytest.fixture
def linked(tmp_path):
    """A link in a run's folder to a store on another disk, or where one will be."""
    for folder in ("run", "disk"):
        (tmp_path / folder).mkdir()
    link = tmp_path / "run/c.zarr"
    link.symlink_to(tmp_path / "disk/big.zarr")
    return link


def test_a_store_behind_a_link_is_made_finished_replaced_and_mended(linked, tmp_path):
    disk = tmp_path / "disk"
    make_store(linked, stop_after=1)
    worker = ShardWriter(
        linked, key=open_cache(linked).key, temporary=beside(linked, "part-node17-4")
    )
    assert worker._temporary.parent == disk
    make_store(linked)
    assert content(linked) == content(make_store(tmp_path / "plain.zarr"))
    make_store(linked, settings=OTHER, replace=True)
    make_store(linked, settings=settings(), replace=True)
    (linked / "blocks/01/cls/c/1/0").unlink()
    assert repair(linked).shards == (1,)
    make_store(linked)
    assert not verify(str(linked)).faults and linked.is_symlink()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["c.zarr"]
    assert {p.name for p in disk.iterdir()} == {"big.zarr", "big.zarr.lock"}


def test_a_kill_while_replacing_behind_a_link_is_resumed(linked, monkeypatch):
    make_store(linked)
    with monkeypatch.context() as patch:
        patch.setattr("cache.write.begin.place_folder", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_store(linked, settings=OTHER, replace=True)
    assert linked.is_symlink() and not linked.exists()
    assert not verify(str(make_store(linked))).faults


def test_a_pull_and_a_packed_file_go_where_a_link_leads(linked, tmp_path):
    source = make_store(tmp_path / "a.zarr")
    pull(plan(source), linked)
    (tmp_path / "run/d.zip").symlink_to(tmp_path / "disk/d.zip")
    pack(plan(source), tmp_path / "run/d.zip")
    assert content(tmp_path / "disk/big.zarr") == content(source)
    assert not verify(str(tmp_path / "disk/d.zip")).faults and linked.is_symlink()


def test_one_writer_also_through_links(linked, tmp_path):
    with (
        writer_lock(linked),
        pytest.raises(CacheError, match="is being written by"),
        writer_lock(tmp_path / "disk/big.zarr"),
    ):
        pass


@pytest.mark.parametrize("what", ["circle", "disk that is away"])
def test_a_link_that_leads_nowhere_is_refused_before_anything(linked, tmp_path, what):
    linked.unlink()
    linked.symlink_to(linked if what == "circle" else tmp_path / "away/big.zarr")
    with pytest.raises(CacheError, match=r"run/c\.zarr is a link to .*, which is not there: mount"):
        make_store(linked, replace=True)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["c.zarr"]
    assert not (tmp_path / "away").exists()

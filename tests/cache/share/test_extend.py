"""Copies that grow: the smaller one stays as it is until the larger one is whole."""

import os
import shutil
import threading

import pytest
from support.faults import IDS, content, make_store, settings, token
from support.servers import nginx
from support.trials import small_disk

import cache.share.pull as pulling
from cache import CacheError, open_cache, plan_copy, pull, verify
from cache.share.pull import recover_copy


@pytest.fixture
def source(tmp_path):
    return make_store(tmp_path / "a.zarr")


@pytest.fixture
def held(source, tmp_path):
    """A copy of block 0 alone."""
    destination = tmp_path / "copies/b.zarr"
    pull(plan_copy(open_cache(str(source)), blocks=[0]), destination)
    return destination


def extend(source, destination, **options):
    return pull(plan_copy(open_cache(str(source)), **options), destination, extend=True)


def is_block_0(destination):
    """Whether the smaller copy is there, without a fault."""
    copy = open_cache(str(destination))
    read = copy.block(0).read("patches", IDS)
    return (
        copy.blocks == [0]
        and (read == token(0, "patches", IDS)).all()
        and not verify(str(destination)).faults
    )


def test_a_larger_copy_fetches_what_the_smaller_one_lacks(source, held):
    half = plan_copy(open_cache(str(source)), blocks=[1]).n_bytes
    assert 0 < extend(source, held) <= half
    assert content(held) == content(source) and not verify(str(held)).faults
    assert [p.name for p in held.parent.iterdir() if p.suffix != ".lock"] == ["b.zarr"]
    assert extend(source, held) == 0
    # One that holds more than is asked for stays.
    assert extend(source, held, blocks=[1]) == 0 and content(held) == content(source)


def test_disks_without_hard_links_copy(source, held, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_, **__: 1 / 0)

    def refuse(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    half = plan_copy(open_cache(str(source)), blocks=[1]).n_bytes
    assert extend(source, held) <= half and content(held) == content(source)


@pytest.mark.parametrize("moment", ["read", "interrupt", "verify", "aside", "placed"])
def test_a_failed_extension_leaves_the_smaller_copy(source, held, monkeypatch, moment):
    class Killed(BaseException):
        pass

    def fail(*_, **__):
        raise {"read": CacheError("connection lost"), "interrupt": KeyboardInterrupt()}.get(
            moment, Killed()
        )

    rename, renamed = os.rename, []

    def rename_once(*places):
        if moment == "placed" and not renamed:
            renamed.append(rename(*places))
        else:
            fail()

    with monkeypatch.context() as patch:
        if moment in ("read", "interrupt"):
            patch.setattr(pulling._Pull, "_read", fail)
        elif moment == "verify":
            patch.setattr(pulling, "verify", fail)
        else:
            patch.setattr("pathlib.Path.rename", rename_once)
        with pytest.raises((CacheError, KeyboardInterrupt, Killed)):
            extend(source, held)
    recover_copy(held)
    assert is_block_0(held)
    extend(source, held)
    assert content(held) == content(source)


def test_a_lost_connection_leaves_the_smaller_copy(source, tmp_path):
    with nginx(tmp_path) as web:
        shutil.copytree(source, web.files / "a.zarr")
        whole = plan_copy(open_cache(web.url("a.zarr")))
        pull(plan_copy(open_cache(web.url("a.zarr")), blocks=[0]), tmp_path / "b.zarr")
        for shard in (web.files / "a.zarr/blocks/01/patches/c").rglob("0"):
            if shard.is_file():
                shard.unlink()
        with pytest.raises(CacheError):
            pull(whole, tmp_path / "b.zarr", extend=True)
    assert is_block_0(tmp_path / "b.zarr")


def test_a_full_disk_leaves_the_smaller_copy(source, tmp_path, monkeypatch):
    try:
        with small_disk(tmp_path / "disk", 2**19) as disk:
            pull(plan_copy(open_cache(str(source)), blocks=[0]), disk / "b.zarr")
            # Others fill it once the room was looked at.
            monkeypatch.setattr(pulling, "require_space", lambda *_: fill(disk))
            with pytest.raises(OSError, match="No space left"):
                extend(source, disk / "b.zarr")
            assert is_block_0(disk / "b.zarr")
            (disk / "ballast").unlink()
            monkeypatch.undo()
            extend(source, disk / "b.zarr")
            assert content(disk / "b.zarr") == content(source)
    except PermissionError as why:
        pytest.skip(f"a small disk takes root: {why}")


def fill(disk):
    with (disk / "ballast").open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free))


def test_a_source_of_another_key_leaves_the_copy(held, tmp_path):
    other = make_store(tmp_path / "other.zarr", settings=settings(dtype="float32"))
    with pytest.raises(CacheError, match=r"b\.zarr holds other tokens \(another key\)"):
        extend(other, held)
    assert is_block_0(held)


def test_a_copy_that_another_extended_meanwhile_loses_nothing(source, held):
    late = plan_copy(open_cache(str(source)), blocks=[0], kinds=["patches", "cls"])
    shutil.rmtree(held)
    pull(plan_copy(open_cache(str(source)), blocks=[0], kinds=["patches", "registers"]), held)
    before = content(held)
    with pytest.raises(CacheError, match="has grown meanwhile: repeat the command"):
        pull(late, held, extend=True)
    assert content(held) == before


def test_two_extend_one_at_a_time(source, held):
    refused, one = [], threading.Lock()

    def second(_):
        with one:
            if refused:
                return
            with pytest.raises(CacheError, match="is being written by process") as caught:
                extend(source, held)
            refused.append(caught)

    pull(plan_copy(open_cache(str(source))), held, progress=second, extend=True)
    assert refused and content(held) == content(source)

"""`verify`: every byte of a finished store, and nothing wrong with an intact one."""

import os

import numpy as np
import pytest
from support.faults import IDS, content, make_store, open_writer, settings, shard_tokens
from support.trials import fault_trials

from cache import CacheError, verify


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("cache.write.atomic._sync", lambda path: None)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "c.zarr")


def told(store, **options):
    return [str(fault) for fault in verify(store, **options).faults]


def test_an_intact_store_has_no_fault(store):
    checkup = verify(store)
    assert not checkup.faults and not checkup.unchecked
    assert len(checkup.sound) == 18


def test_every_fault_is_reported_and_no_affected_read_returns(tmp_path):
    """The full thousand is under `make bench`."""
    counts, kinds = fault_trials(tmp_path, 200)
    print(dict(counts), dict(kinds))
    assert counts["reported"] == counts["faults"] == 200 and len(kinds) == 7
    assert counts["reads that returned"] == 0 < counts["affected reads"]


def test_every_bit_of_the_small_files_counts(store):
    """All single-bit flips of the root, of progress and of one array's zarr.json."""
    for name in ("progress/c/0", "image/c/0", "zarr.json", "blocks/00/cls/zarr.json"):
        intact = (store / name).read_bytes()
        step = max(1, len(intact) // 25)
        for position in range(0, len(intact), step):
            for bit in range(0, 8, 3):
                data = bytearray(intact)
                data[position] ^= 1 << bit
                (store / name).write_bytes(data)
                assert name in {fault.path for fault in verify(store, quick=True).faults}
        (store / name).write_bytes(intact)
    assert not verify(store).faults


def test_a_fault_names_block_array_images_and_file(store):
    path = store / "blocks/01/patches/c/1/0/0/0"
    data = bytearray(path.read_bytes())
    data[60] ^= 4
    path.write_bytes(data)
    assert told(store) == [
        "block 1, patches, images 23..29 (blocks/01/patches/c/1/0/0/0): its bytes do not match "
        "their checksum"
    ]
    assert not verify(store, quick=True).faults


def test_an_absent_file_is_told_by_the_quick_check(store):
    (store / "blocks/00/registers/c/2/0/0").unlink()
    expected = "block 0, registers, images 59..73 (blocks/00/registers/c/2/0/0): is absent"
    assert told(store, quick=True) == told(store) == [expected]


def test_an_unfinished_store_is_a_fault_that_extraction_mends(tmp_path):
    store = make_store(tmp_path / "c.zarr", stop_after=1)
    (fault,) = verify(store).faults
    assert fault.remedy == "extract" and "2 of 3 shards are missing" in str(fault)
    with open_writer(store) as writer:
        for shard in (1, 2):
            writer.write_shard(shard, shard_tokens(writer.shard_ids(shard)))
    (fault,) = verify(store).faults
    assert "was not finished" in str(fault)


def test_claimed_shards_of_an_unfinished_store_are_checked(tmp_path):
    store = make_store(tmp_path / "c.zarr", stop_after=2)
    path = store / "blocks/00/cls/c/1/0"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    (store / "blocks/01/cls/c/0/0").unlink()
    assert {fault.path for fault in verify(store).faults if fault.remedy == "repair"} == {
        "blocks/00/cls/c/1/0",
        "blocks/01/cls/c/0/0",
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["patches", "cls", "registers"])
def test_tokens_that_are_not_finite_are_found(tmp_path, value, kind):
    with open_writer(tmp_path / "c.zarr") as writer:
        for shard in writer.missing_shards():
            tokens = shard_tokens(writer.shard_ids(shard))
            if shard == 1:
                tokens[1][kind].flat[-1] = value
            writer.write_shard(shard, tokens)
        writer.finish()
    (fault,) = verify(tmp_path / "c.zarr").faults
    assert (fault.block, fault.array) == (1, kind) and fault.images is not None
    assert fault.images[1] == 53 and "NaN or infinite" in fault.problem


def test_what_does_not_belong_is_named(store):
    (store / "notes.txt").write_text("mine")
    (store / "empty").mkdir()
    (store / "blocks/00/patches/c/9").mkdir()
    (store / "blocks/00/cls/c/0/0.partial").write_bytes(b"torn")
    (store / "extra").symlink_to("/etc")
    faults = verify(store).faults
    assert {fault.path for fault in faults} == {
        "notes.txt",
        "empty",
        "blocks/00/patches/c/9",
        "blocks/00/cls/c/0/0.partial",
        "extra",
    }
    assert all("delete it" in fault.problem or "link" in fault.problem for fault in faults)


def test_links_in_place_of_files_are_faults(store, tmp_path):
    path = store / "blocks/00/cls/c/0/0"
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    (fault,) = verify(store).faults
    assert (fault.path, fault.problem) == ("blocks/00/cls/c/0/0", "is a link, which no cache has")


def test_odd_things_in_place_of_files(store):
    for name in ("blocks/00/cls/c/0/0", "blocks/01/zarr.json"):
        (store / name).unlink()
        (store / name).mkdir()
    pipe = store / "blocks/01/cls/c/1/0"
    pipe.unlink()
    os.mkfifo(pipe)
    found = {fault.path for fault in verify(store).faults}
    assert {"blocks/00/cls/c/0/0", "blocks/01/zarr.json", "blocks/01/cls/c/1/0"} <= found


def test_a_lost_root_is_a_fault_but_an_empty_place_is_no_cache(store, tmp_path):
    (store / "zarr.json").unlink()
    assert told(store) == ["zarr.json: is absent"]
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nothing"):
        with pytest.raises(CacheError, match="no feature cache there"):
            verify(tmp_path / name)


@pytest.mark.parametrize(
    ("ids", "count", "message"),
    [
        (IDS[::-1], 21, "image ids do not increase"),
        (IDS, 20, "21 image ids, the settings say 20"),
    ],
)
def test_image_ids_are_checked(tmp_path, monkeypatch, ids, count, message):
    monkeypatch.setattr("cache.write.begin._increasing", lambda given: given)
    store = make_store(tmp_path / "c.zarr", image_ids=ids, settings=settings(count))
    assert told(store) == [f"image/c/0: {message}"]


def test_progress_is_told_with_the_number_of_all_files(store):
    seen = []
    verify(store, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 18)] + [(1, 18)] * 18
    verify(store, quick=True, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == 19


def test_verifying_changes_nothing(store):
    before = content(store)
    verify(store)
    assert content(store) == before

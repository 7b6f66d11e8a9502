"""Packed caches: read in place, the same everywhere, and nothing but what a pack writes."""

import pickle
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faults import IDS, content, make_store, token
from support.servers import nginx, s3
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from cache import CacheError, open_cache, pack, plan_copy, verify
from cache.stores.location import open_store
from cache.stores.zarr_internals import sync


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("local") / "a.zarr")


@pytest.fixture(scope="module")
def packed(store):
    path = store.with_name("a.zarr.zip")
    pack(plan_copy(open_cache(str(store))), path)
    return path


def entry(name: str, *, mode: int = 0o100644, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, method
    return info


def refused(path) -> str:
    with pytest.raises(CacheError) as error:
        open_cache(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_packed_cache_is_read_in_place(store, packed):
    cache = open_cache(str(packed))
    ids = np.array([73, 2, 41, 2])
    for block in (0, 1):
        for kind in cache.kinds:
            assert np.array_equal(cache.block(block).read(kind, ids), token(block, kind, ids))
    assert cache.key == open_cache(str(store)).key
    assert np.array_equal(cache.block(0).patches[:], token(0, "patches", IDS))
    assert not verify(str(packed)).faults
    assert sorted(p.name for p in packed.parent.iterdir() if p.suffix != ".lock") == [
        "a.zarr", "a.zarr.zip",
    ]  # fmt: skip


def test_packing_is_reproducible_and_any_unzip_reads_it(store, packed, tmp_path):
    pack(
        plan_copy(open_cache(str(shutil.copytree(store, tmp_path / "b.zarr")))),
        tmp_path / "b.zarr.zip",
    )
    assert (tmp_path / "b.zarr.zip").read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == content(store)


def test_a_packed_cache_can_be_packed_again(packed, tmp_path):
    pack(plan_copy(open_cache(str(packed))), tmp_path / "c.zip")
    assert (tmp_path / "c.zip").read_bytes() == packed.read_bytes()


def test_beyond_what_a_plain_zip_can_address(store, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 90)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    pack(plan_copy(open_cache(str(store))), tmp_path / "big.zip")
    assert (tmp_path / "big.zip").stat().st_size > packed.stat().st_size
    cache = open_cache(str(tmp_path / "big.zip"))
    assert np.array_equal(cache.block(1).read("patches", IDS), token(1, "patches", IDS))


def test_members_beyond_four_gigabytes(store, tmp_path):
    """The file is sparse: what lies before its members takes no room."""
    path = tmp_path / "sparse.zip"
    with path.open("wb") as file:
        file.seek(5 * 2**30)
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in content(store).items():
                archive.writestr(entry(name), data)
    cache = open_cache(str(path))
    assert np.array_equal(cache.block(1).read("patches", IDS), token(1, "patches", IDS))


def test_a_directory_too_long_for_one_request(packed, monkeypatch):
    monkeypatch.setattr("cache.stores.zip.TAIL", 100)
    monkeypatch.setattr("cache.stores.zip.SMALL", 0)
    assert not verify(str(packed)).faults


def test_a_directory_of_senseless_length_is_not_read(packed, monkeypatch):
    monkeypatch.setattr("cache.stores.zip.DIRECTORY_LIMIT", 1000)
    assert "larger than any cache's" in refused(packed)


@given(first=st.integers(0, 1200), length=st.integers(0, 1200))
def test_ranges_are_those_of_the_file(packed, store, first, length):
    name = "blocks/00/patches/c/0/0/0/0"
    plain = (store / name).read_bytes()
    opened = open_store(str(packed))
    for part, expected in (
        (RangeByteRequest(first, first + length), plain[first : first + length]),
        (OffsetByteRequest(first), plain[first:]),
        (SuffixByteRequest(length), plain[max(0, len(plain) - length) :]),
    ):
        value = sync(opened.get(name, default_buffer_prototype(), part))
        assert value is not None and value.to_bytes() == expected


def test_threads_and_pickled_copies_read_alike(packed):
    cache = pickle.loads(pickle.dumps(open_cache(str(packed))))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: cache.block(1).read("patches", [i]), IDS))
    assert np.array_equal(np.concatenate(read), token(1, "patches", IDS))


def test_over_http_and_s3(packed, tmp_path, monkeypatch):
    with nginx(tmp_path) as web, s3(monkeypatch) as bucket:
        shutil.copy(packed, web.files)
        bucket.upload(packed, "a.zarr.zip")
        for url, server in (
            (web.url("a.zarr.zip?signature=s3cr3t", location="signed"), web),
            ("s3://lab/a.zarr.zip", bucket),
        ):
            cache = open_cache(url)
            assert len(server.requests()) == 3  # its size, its directory, the root
            assert np.array_equal(cache.block(1).read("cls", IDS), token(1, "cls", IDS))
            assert not verify(url).faults


def test_what_pack_refuses(store, tmp_path):
    whole = plan_copy(open_cache(str(store)))
    (tmp_path / "there.zip").write_bytes(b"precious")
    with pytest.raises(CacheError, match="exists: delete it first"):
        pack(whole, tmp_path / "there.zip")
    assert (tmp_path / "there.zip").read_bytes() == b"precious"
    with pytest.raises(CacheError, match=r"ends in \.zarr\.zip"):
        pack(whole, tmp_path / "a.tar")
    unfinished = make_store(tmp_path / "half.zarr", stop_after=1)
    with pytest.raises(CacheError, match="2 of 3 shards are missing"):
        plan_copy(open_cache(str(unfinished)))


def test_damage_in_the_source_leaves_no_packed_file(store, tmp_path):
    bad = shutil.copytree(store, tmp_path / "bad.zarr")
    path = bad / "blocks/01/patches/c/2/0/0/0"
    path.write_bytes(path.read_bytes().replace(b"\0", b"\1", 1))
    with pytest.raises(CacheError, match="block 1, patches, images"):
        pack(plan_copy(open_cache(str(bad))), tmp_path / "bad.zip")
    assert not list(tmp_path.glob("*.zip*")) or {p.name for p in tmp_path.glob("*.zip*")} == {
        "bad.zip.lock"
    }


def test_too_little_space(store, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(CacheError, match="make room"):
        pack(plan_copy(open_cache(str(store))), tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("../outside", {}, "no path within a cache"),
        ("blocks/../../outside", {}, "no path within a cache"),
        ("/etc/passwd", {}, "no path within a cache"),
        ("C:/windows", {}, "no path within a cache"),
        ("blocks\\00", {}, "no path within a cache"),
        ("link", {"mode": 0o120777}, "link or a device"),
        ("pipe", {"mode": 0o010644}, "link or a device"),
        ("small", {"method": zipfile.ZIP_DEFLATED}, "compressed or encrypted"),
    ],
)
def test_members_that_no_pack_writes_are_refused(packed, tmp_path, name, options, problem):
    path = tmp_path / "odd.zip"
    shutil.copy(packed, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry(name, **options), b"x" * 100)
    assert problem in refused(path)
    assert not (tmp_path.parent / "outside").exists()


def test_a_member_that_does_not_belong_is_a_fault(packed, tmp_path):
    path = tmp_path / "odd.zip"
    shutil.copy(packed, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry("readme.txt"), b"x" * 100)
    assert [fault.path for fault in verify(str(path)).faults] == ["readme.txt", "odd.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(packed, tmp_path):
    path = tmp_path / "odd.zip"
    shutil.copy(packed, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry("zarr.json"), b"{}")
    assert "twice" in refused(path)


def test_a_claimed_size_beyond_the_file(packed, tmp_path):
    data = bytearray(packed.read_bytes())
    # The directory's entry of the root: its two sizes, 20 and 24 bytes in.
    first = data.index(b"PK\1\2")
    data[first + 20 : first + 28] = (2**31).to_bytes(4, "little") * 2
    (tmp_path / "odd.zip").write_bytes(data)
    assert "claims a size" in refused(tmp_path / "odd.zip")


def test_files_that_are_no_packed_cache(tmp_path, packed):
    (tmp_path / "a.txt").write_text("tokens")
    assert "neither a cache's directory nor a packed cache" in refused(tmp_path / "a.txt")
    (tmp_path / "empty.zip").write_bytes(b"")
    assert "neither" in refused(tmp_path / "empty.zip")
    (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:-500])
    assert "neither" in refused(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "top.zip", "w") as archive:
        archive.writestr("a.zarr/zarr.json", b"{}")
    assert "no zarr.json at its top" in refused(tmp_path / "top.zip")
    assert "no feature cache there" in refused(tmp_path / "absent.zip")


def test_any_changed_byte_of_a_packed_cache_is_found(packed, tmp_path):
    intact, path = packed.read_bytes(), tmp_path / "bad.zarr.zip"
    random = np.random.default_rng(0)
    directory = intact.index(b"PK\1\2")
    # Anywhere, and more often where only zip's own bookkeeping lies.
    positions = [*random.integers(0, directory, 60), *random.integers(directory, len(intact), 60)]
    for position in positions:
        data = bytearray(intact)
        data[position] ^= 1 << random.integers(8)
        path.write_bytes(data)
        assert verify(str(path)).faults, position
    for changed in (intact[:-1], intact[:-100], intact + b"\0", b"\0" + intact):
        path.write_bytes(changed)
        assert verify(str(path)).faults


def test_a_packed_cache_without_a_seal_is_read_but_not_vouched_for(packed, tmp_path):
    path = tmp_path / "odd.zarr.zip"
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(path, "w") as other:
        for member in archive.infolist():
            other.writestr(entry(member.filename), archive.read(member))
    ids = IDS[:3]
    assert np.array_equal(open_cache(str(path)).block(0).read("cls", ids), token(0, "cls", ids))
    (fault,) = verify(str(path)).faults
    assert "no seal" in str(fault)


def test_a_file_that_is_replaced_while_it_is_open(packed, tmp_path):
    path = tmp_path / "a.zip"
    shutil.copy(packed, path)
    cache = open_cache(str(path))
    path.write_bytes(packed.read_bytes()[:3000])
    with pytest.raises(CacheError, match="changed or cut off since it was opened"):
        cache.block(1).read("patches", IDS)

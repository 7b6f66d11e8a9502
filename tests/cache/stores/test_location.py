"""Caches behind URLs: the same tokens, few requests, and refusals of one line without secrets."""

import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.faults import IDS, make_store, token
from support.hostile import no_waiting
from support.servers import nginx, s3

from cache import CacheError, open_cache, verify
from cache.stores.location import open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("local") / "a.zarr")


@pytest.fixture(scope="module")
def web(tmp_path_factory, store):
    with nginx(tmp_path_factory.mktemp("web")) as server:
        shutil.copytree(store, server.files / "a.zarr")
        yield server


@pytest.fixture(scope="module")
def bucket(store):
    with pytest.MonkeyPatch.context() as monkeypatch, s3(monkeypatch) as server:
        server.upload(store, "caches/a.zarr")
        yield server


def refused(url: str) -> str:
    with pytest.raises(CacheError) as error:
        open_cache(url).block(0).read("patches", [2])
    text = str(error.value)
    assert "\n" not in text and "s3cr3t" not in text and error.value.__cause__ is None
    return text


def test_http_gives_the_same_tokens_in_few_requests_and_lists_nothing(web):
    cache = open_cache(web.url("a.zarr"))
    ids = np.array([73, 2, 41, 2])
    for block in (0, 1):
        for kind in cache.kinds:
            assert np.array_equal(cache.block(block).read(kind, ids), token(block, kind, ids))
    asked = web.requests()
    assert {request.status for request in asked} <= {200, 206}
    assert not [request for request in asked if request.path.endswith("/")]
    documents = [request.path for request in asked if request.path.endswith("zarr.json")]
    assert len(documents) == len(set(documents))


def test_lazy_arrays_over_http(web):
    patches = open_cache(web.url("a.zarr")).block(1).patches
    assert np.array_equal(patches[3:9], token(1, "patches", IDS[3:9]))
    assert "s3cr3t" not in repr(patches)


def test_a_cache_behind_a_url_can_be_verified(web):
    assert not verify(web.url("a.zarr")).faults


def test_damage_behind_a_url_is_found(web, store):
    shutil.copytree(store, web.files / "bad.zarr")
    path = web.files / "bad.zarr/blocks/01/cls/c/1/0"
    path.write_bytes(path.read_bytes()[:-30] + bytes(30))
    (web.files / "bad.zarr/blocks/00/cls/c/2/0").unlink()
    cache = open_cache(web.url("bad.zarr"))
    for block, place in ((1, "block 1, cls, images 23..53"), (0, "block 0, cls, images 59..73")):
        with pytest.raises(CacheError, match=place):
            cache.block(block).read("cls", IDS)


def test_user_and_password(web):
    url = web.url("a.zarr", location="private", user="lab:s3cr3t@")
    cache = open_cache(url)
    assert cache.block(0).read("cls", [5]).shape == (1, 4)
    assert "s3cr3t" not in f"{cache.name} {cache.store} {cache.block(0).cls!r}"
    assert "(401)" in refused(web.url("a.zarr", location="private"))
    assert "(401)" in refused(web.url("a.zarr", location="private", user="lab:s3cr3tx@"))


def test_password_from_netrc(web, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login lab password s3cr3t\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert open_cache(web.url("a.zarr", location="private")).complete


def test_a_signature_in_the_query_goes_with_every_file(web):
    cache = open_cache(web.url("a.zarr?signature=s3cr3t", location="signed"))
    assert cache.block(1).read("registers", [5]).shape == (1, 1, 4)
    assert "(403)" in refused(web.url("a.zarr?signature=no", location="signed"))


def test_nothing_there(web):
    assert "no feature cache there" in refused(web.url("b.zarr"))
    assert "no feature cache there" in refused(web.url("b.zarr.zip"))


def test_a_server_without_ranges_is_refused_before_it_sends_whole_files(web):
    web.requests()
    assert "ignores byte ranges" in refused(web.url("a.zarr", location="whole"))
    # Answers end at the first shard: no other one is asked for.
    shards = {r.path for r in web.requests() if "/blocks/" in r.path and "/c/" in r.path}
    assert len(shards) == 1


def test_an_overloaded_server_is_asked_again(web, monkeypatch):
    waited = no_waiting(monkeypatch)
    web.requests()
    assert "answered 503" in refused(web.url("a.zarr", location="broken"))
    assert 60 < sum(waited) < 120 and len(web.requests()) == len(waited) + 1


def test_unreachable_and_senseless_addresses(bucket):
    assert "cannot reach 127.0.0.1:1 " in refused("http://lab:s3cr3t@127.0.0.1:1/a.zarr")
    assert "http://, https://, s3://, hf://" in refused("ftp://lab:s3cr3t@host/a.zarr")
    assert "http://... (no address)" in refused("http://[lab:s3cr3t@")


@pytest.mark.parametrize(
    ("url", "package", "remedy"),
    [
        ("s3://bucket/a.zarr", "s3fs", "pip install s3fs"),
        ("https://host/a.zarr", "aiohttp", r"pip install 'fsspec\[http\]'"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, url, package, remedy):
    for module in ("cache.stores.s3", "cache.stores.http"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CacheError, match=remedy):
        open_store(url)


def test_s3_gives_the_same_tokens_and_lists_nothing(bucket):
    cache = open_cache("s3://lab/caches/a.zarr")
    ids = np.array([73, 2, 41])
    for kind in cache.kinds:
        assert np.array_equal(cache.block(1).read(kind, ids), token(1, kind, ids))
    assert {request.status for request in bucket.requests()} <= {200, 206}
    assert not verify("s3://lab/caches/a.zarr").faults
    assert not [request for request in bucket.requests() if "a.zarr" not in request.path]


def test_s3_refusals(bucket, monkeypatch):
    from s3fs import S3FileSystem

    assert "no feature cache there" in refused("s3://lab/caches/b.zarr")
    assert "no feature cache there" in refused("s3://nobody/a.zarr")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    S3FileSystem.clear_instance_cache()
    try:
        assert "access is refused" in refused("s3://lab/caches/a.zarr")
    finally:
        S3FileSystem.clear_instance_cache()


def test_the_hub_is_asked_as_its_settings_say(web, monkeypatch):
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    here = f"http://127.0.0.1:{web.port}{template}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", here)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    cache = open_cache("hf://datasets/lab/tokens@v1/a.zarr")
    assert np.array_equal(cache.block(1).read("cls", [2, 3]), token(1, "cls", np.array([2, 3])))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "(401)" in refused("hf://datasets/lab/tokens@v1/a.zarr")
    assert "OWNER/NAME/PATH" in refused("hf://datasets/a.zarr")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused("hf://datasets/lab/tokens@v1/a.zarr")


def test_keys_and_endpoints_of_s3_are_not_shown(bucket, monkeypatch):
    from s3fs import S3FileSystem

    for secret in ("s3cr3t", "s3c/r3t", "12/s3cr3t"):
        assert "AWS_PROFILE" in refused(f"s3://AKIA:{secret}@lab/caches/a.zarr")
    for endpoint in ("http://lab:s3cr3t@127.0.0.1:1/?key=s3cr3t", "no address?key=s3cr3t"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        S3FileSystem.clear_instance_cache()
        assert "AWS_ENDPOINT_URL" in refused("s3://lab/caches/a.zarr")
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("place", ["http", "s3"])
def test_threads_and_pickled_copies_read_alike(place, web, bucket):
    url = web.url("a.zarr") if place == "http" else "s3://lab/caches/a.zarr"
    cache = pickle.loads(pickle.dumps(open_cache(url)))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: cache.block(1).read("patches", [i]), IDS))
    assert np.array_equal(np.concatenate(read), token(1, "patches", IDS))


def test_a_home_folder_of_nobody_is_refused():
    with pytest.raises(CacheError, match="no home folder"):
        open_cache("~no-such-user/c.zarr")

"""Servers without byte ranges, such as `python -m http.server`: whole files are read."""

import functools
import logging
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.faults import IDS, content, make_store

from cache import CacheError, cache_info, open_cache, plan_copy, pull, verify


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("files") / "a.zarr")


@pytest.fixture(scope="module")
def url(store):
    handler = functools.partial(Quiet, directory=str(store.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_it_holds_is_read_with_one_note(store, url, caplog):
    with caplog.at_level(logging.WARNING):
        there, here = (cache_info(open_cache(p)) for p in (f"{url}/a.zarr", str(store)))
    assert {**there, "path": ""} == {**here, "path": ""}
    assert [r.message for r in caplog.records if "no byte ranges" in r.message] == [
        f"{url}/a.zarr: the server has no byte ranges: whole files are read"
    ]


@pytest.mark.parametrize("quick", [True, False])
def test_a_sound_cache_is_sound(url, quick):
    assert not verify(f"{url}/a.zarr", quick=quick).faults


def test_damage_is_found(url, store):
    damaged = make_store(store.with_name("bad.zarr"))
    (damaged / "blocks/01/cls/c/1/0").write_bytes(b"short")
    faults = verify(f"{url}/bad.zarr", quick=True).faults
    assert [fault.path for fault in faults] == ["blocks/01/cls/c/1/0"]


def test_whole_shards_are_pulled(url, store, tmp_path):
    pull(plan_copy(open_cache(f"{url}/a.zarr")), tmp_path / "b.zarr")
    assert content(tmp_path / "b.zarr") == content(store)


def test_parts_are_refused(url):
    with pytest.raises(CacheError, match=r"ignores byte ranges, .* vitv1 cache pull"):
        open_cache(f"{url}/a.zarr").block(0).read("patches", IDS[:1])

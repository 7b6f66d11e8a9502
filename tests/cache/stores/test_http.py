"""Servers that send bombs, drips or nothing, and busy ones: bounded memory, time and words."""

import gzip
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support.faults import content, make_store
from support.hostile import answering, file, head, no_waiting

from cache import CacheError, open_cache, plan_copy, pull
from cache.format.metadata import DOCUMENT_LIMIT


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("local") / "a.zarr")


def refused(answer) -> str:
    with answering(answer) as url, pytest.raises(CacheError) as error:
        open_cache(f"{url}/a.zarr?key=s3cr3t")
    text = str(error.value)
    assert "\n" not in text and "s3cr3t" not in text and error.value.__cause__ is None
    return text


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP"])
def test_compressed_answers_are_refused_unread(encoding):
    bomb = gzip.compress(bytes(2**20))

    def answer(client, path, part):
        head(client, "206 Partial Content", Content_Encoding=encoding, Content_Length=len(bomb))
        client.sendall(bomb)

    assert "zarr.json compressed" in refused(answer)


def test_endless_answers_are_cut():
    sent = 0

    def answer(client, path, part):
        nonlocal sent
        head(client, "206 Partial Content")
        while True:
            client.sendall(bytes(2**16))
            sent += 2**16

    assert "sends more than was asked for" in refused(answer)
    assert sent < 2 * DOCUMENT_LIMIT


def test_a_large_document_is_refused(monkeypatch):
    def answer(client, path, part):
        head(client, "206 Partial Content", Content_Length=len(part))
        client.sendall(b" " * len(part))

    assert "is larger than any cache's (16 MiB" in refused(answer)


@pytest.fixture
def quick(monkeypatch):
    """Deadlines that a test can wait for."""
    monkeypatch.setattr("cache.stores.http.HEADERS_WITHIN", 0.2)
    monkeypatch.setattr("cache.stores.base.WINDOW", 0.2)
    monkeypatch.setattr("cache.stores.s3.HEADERS_WITHIN", 0.2)
    monkeypatch.setattr("cache.stores.base.PATIENCE_IF_SLOW", 1.0)


def _silent(client, path, part):
    time.sleep(2)


def _dripping_headers(client, path, part):
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(100):
        client.sendall(b"x")
        time.sleep(0.02)


def _dripping_body(client, path, part):
    head(client, "206 Partial Content")
    for _ in range(100):
        client.sendall(b"x")
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (_silent, "no answer in time, 0.2 s"),
        (_dripping_headers, "no answer in time, 0.2 s"),
        (_dripping_body, "fewer than 8 KiB/s over 0.2 s"),
    ],
)
def test_silence_and_drips_end(answer, told, quick):
    began = time.monotonic()
    text = refused(answer)
    assert told in text and "copy the cache by other means" in text
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("answer", [_silent, _dripping_headers, _dripping_body])
def test_silence_and_drips_of_s3_end(answer, quick, monkeypatch):
    from s3fs import S3FileSystem

    with answering(answer) as url:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{url.partition('@')[2]}",
            "AWS_ACCESS_KEY_ID": "right",
            "AWS_SECRET_ACCESS_KEY": "s3cr3t",
        }.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        began = time.monotonic()
        with pytest.raises(CacheError, match=r"no answer in time|fewer than 8 KiB/s") as error:
            open_cache("s3://lab/a.zarr")
        assert time.monotonic() - began < 4 and "s3cr3t" not in str(error.value)
        S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("dated", [False, True])
def test_retry_after_is_heeded(store, dated, monkeypatch):
    waited, asked = no_waiting(monkeypatch), []
    until = datetime.now(UTC) + timedelta(seconds=40)

    def answer(client, path, part):
        asked.append(path)
        if len(asked) == 1:
            after = format_datetime(until, usegmt=True) if dated else 40
            head(client, "503 Service Unavailable", Retry_After=after, Content_Length=0)
        else:
            file(client, store.parent / path, part)

    with answering(answer) as url:
        open_cache(f"{url}/a.zarr")
    assert len(waited) == 1 and waited[0] == pytest.approx(40, abs=5)


@pytest.mark.parametrize(("after", "told"), [("3600", "asks to wait 3600 s"), ("soon", "503")])
def test_retry_after_is_bounded(after, told, monkeypatch):
    waited = no_waiting(monkeypatch)
    assert told in refused(
        lambda client, path, part: head(client, "503 Busy", Retry_After=after, Content_Length=0)
    )
    assert sum(waited) <= 120 and (after == "soon" or not waited)


def test_a_pull_survives_a_minute_of_refusals(store, tmp_path, monkeypatch, caplog):
    """The clock runs by pauses only; every file is refused for a minute of it."""
    waited = no_waiting(monkeypatch)
    fine = 0.0

    def answer(client, path, part):
        if fine <= sum(waited) < fine + 60:
            head(client, "503 Service Unavailable", Content_Length=0)
        else:
            file(client, store.parent / path, part)

    with answering(answer) as url, caplog.at_level(logging.WARNING):
        copy = plan_copy(open_cache(f"{url}/a.zarr"))
        fine = sum(waited)
        pull(copy, tmp_path / "b.zarr", threads=1)
    assert content(tmp_path / "b.zarr") == content(store)
    assert sum(waited) - fine >= 60
    told = [record.getMessage() for record in caplog.records]
    assert told and all("answered 503; asked again in" in text for text in told)
    assert "s3cr3t" not in "".join(told)


def test_endless_headers_are_refused_at_once():
    def answer(client, path, part):
        client.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            client.sendall(b"X: y\r\n" * 1000)

    assert "no answer as http has them" in refused(answer)

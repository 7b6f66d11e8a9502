"""Paths and URLs: joined, and shown without secrets."""

import pytest

from cache import is_url, join, public_name, public_text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.zarr", "https://host/a.zarr"),
        ("https://lab:s3cr3t@host:8080/a.zarr", "https://host:8080/a.zarr"),
        ("https://lab:p@ss:s3cr3t@host/a.zarr", "https://host/a.zarr"),
        ("https://host/a.zarr.zip?X-Amz-Signature=s3cr3t#x", "https://host/a.zarr.zip"),
        ("s3://lab:s3cr3t@bucket/a.zarr", "s3://bucket/a.zarr"),
        ("hf://datasets/lab/tokens@refs/pr/1/a.zarr", "hf://datasets/lab/tokens@refs/pr/1/a.zarr"),
        ("runs/odd?name@host", "runs/odd?name@host"),
        ("s3://AKIA:s3c/r3t@bucket/a.zarr", "s3://... (no address)"),
        ("s3://AKIA:12/s3cr3t@bucket/a.zarr", "s3://... (no address)"),
        ("https://lab:s3#cr3t@host/a.zarr", "https://... (no address)"),
        ("https://[::1]:8080/a.zarr", "https://[::1]:8080/a.zarr"),
    ],
)
def test_public_name(url, shown):
    assert public_name(url) == shown


def test_urls_within_messages():
    told = 'Could not connect to "https://lab:s3cr3t@host/a?sig=s3cr3t", s3:/K:s3cr3t@b/x: no.'
    assert public_text(told) == 'Could not connect to "https://host/a", s3://b/x: no.'
    for kept in (
        "http://, https://, s3:// takes",
        "s3://... (no address): s3://b",
        "s3://BUCKET/P",
    ):
        assert public_text(kept) == kept
    assert public_text("s3://:s3cr3t@b s3://a?s3cr3t s3:/:s3cr3t@b") == "s3://b s3://a s3://b"
    assert public_text("C:/runs/a: see https://host/a.") == "C:/runs/a: see https://host/a."


def test_join():
    assert join("https://lab:x@host/caches/?sig=1", "a.zarr") == (
        "https://lab:x@host/caches/a.zarr?sig=1"
    )
    assert join("runs/x", "a.zarr") == "runs/x/a.zarr"
    assert is_url("s3://b") and not is_url("/a:b")

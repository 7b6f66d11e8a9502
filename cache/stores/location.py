"""The place of a cache: a directory, a packed file, or either of them behind a URL.

zarr is imported when a store is opened, so that whoever only handles names does not wait for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from cache.errors import CacheError
from cache.stores.address import is_url, public_name

if TYPE_CHECKING:
    from zarr.abc.store import Store

#: How a packed file's name ends; a URL has no other way to say that it is one.
PACKED = ".zip"

SCHEMES = ("http", "https", "s3", "hf")

_HUB = re.compile(
    r"(?:(?P<kind>datasets|models|spaces)/)?"
    r"(?P<repo>(?!(?:datasets|models|spaces)/)[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?(?:/(?P<path>.+))?"
)


def open_store(path_or_url: str) -> Store:
    """The files of a cache as a read-only zarr store, wherever they are.

    Parameters
    ----------
    path_or_url : str
        A directory or a packed file; `http://`, `https://`, `s3://` or `hf://` before either,
        where a packed file's name ends in ".zip".

    Raises
    ------
    CacheError
        An unknown kind of URL, a package it needs that is not installed, a server that cannot be
        reached or refuses, or a file that is no packed cache. Whether a cache is there is left to
        the reader of its root.
    """
    if not is_url(path_or_url):
        from zarr.storage import LocalStore

        try:
            # The working directory may change while the cache is open.
            path = Path(path_or_url).expanduser().absolute()
        except RuntimeError:
            raise CacheError(
                f"{path_or_url}: no home folder is known of that user; write it out"
            ) from None
        if not path.is_file():
            return LocalStore(path, read_only=True)
        store: Store = LocalStore(path.parent, read_only=True)
        file, name = path.name, path_or_url
    else:
        name = public_name(path_or_url)
        try:
            parts = urlsplit(path_or_url)
        except ValueError:
            # Told below as an address that has neither scheme nor host.
            parts = urlsplit("")
        if parts.scheme not in SCHEMES or not parts.netloc:
            raise CacheError(
                f"{name}: a cache is read from a local path or from "
                f"{', '.join(f'{known}://' for known in SCHEMES)}; name one of those"
            )
        if parts.scheme == "s3" and {"@", ":"} & set(parts.netloc):
            raise CacheError(
                f"{name}: s3:// takes no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
                "AWS_PROFILE, and write s3://BUCKET/PATH"
            )
        if not parts.path.endswith(PACKED):
            return _remote(path_or_url, name)
        folder, _, file = parts.path.rpartition("/")
        store = _remote(urlunsplit(parts._replace(path=folder)), name)
    from cache.stores.zip import PackedStore

    return PackedStore(store, file, name=name)


def _remote(url: str, name: str) -> Store:
    """A URL's directory; the packages that this takes are imported only here."""
    scheme = urlsplit(url).scheme
    try:
        if scheme == "s3":
            from cache.stores.s3 import S3Store

            return S3Store(url.partition("://")[2], name=name)
        from cache.stores.http import HttpStore
    except ModuleNotFoundError as missing:
        package = "s3fs" if scheme == "s3" else "'fsspec[http]'"
        raise CacheError(
            f"{name}: reading {scheme}:// needs {missing.name}, which is not installed: "
            f"pip install {package}"
        ) from None
    if scheme != "hf":
        return HttpStore(url, name=name)
    address, headers = _hub_address(url)
    return HttpStore(address, name=name, headers=headers)


def hub_parts(url: str) -> Mapping[str, Any]:
    """Kind of repository, its name, revision and path of an hf:// URL; `CacheError` for others."""
    found = _HUB.fullmatch(url.removeprefix("hf://").rstrip("/"))
    if found is None:
        raise CacheError(
            f"{public_name(url)}: expected hf://datasets/OWNER/NAME/PATH or "
            "hf://datasets/OWNER/NAME@REVISION/PATH"
        )
    return found.groupdict()


def _hub_address(url: str) -> tuple[str, dict[str, str]]:
    """The hub's https address of an hf:// URL, and the headers that say who asks.

    Files are then read by range from the hub's own storage. The hub's settings hold (HF_TOKEN,
    HF_ENDPOINT, HF_HUB_OFFLINE).
    """
    from huggingface_hub import constants, get_token, hf_hub_url

    found = hub_parts(url)
    if constants.HF_HUB_OFFLINE:
        raise CacheError(
            f"{public_name(url)}: HF_HUB_OFFLINE is set, so nothing is read from the hub: unset "
            "it, or pull the cache to this machine while online"
        )
    kind = found["kind"] or "models"
    address = hf_hub_url(
        found["repo"],
        found["path"] or "",
        repo_type=kind.removesuffix("s"),
        revision=found["revision"],
    )
    token = get_token()
    return address.rstrip("/"), {"Authorization": f"Bearer {token}"} if token else {}

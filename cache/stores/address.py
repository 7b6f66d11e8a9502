"""Paths and URLs as texts: how they are joined, and how they are shown without secrets."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

#: Quotes and the punctuation after a URL are not counted to it.
_URL = re.compile(
    r"[a-z][a-z0-9+.-]+:/+[^\s\"'<>/.,;)](?:[^\s\"'<>]*[^\s\"'<>.,:;)])?", re.IGNORECASE
)
_HOST = re.compile(r"[^:@]*(:\d*)?|\[[0-9a-f:.]*\](:\d*)?", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Whether this is a URL rather than a local path."""
    return "://" in path


def public_name(path: object) -> str:
    """A path or URL as it may be shown and stored: without user, password, query and fragment."""
    text = str(path)
    if not is_url(text):
        return text
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        # A password with "/", "?" or "#" in it ends what is taken for the host.
        known = _HOST.fullmatch(host) and not (parts.scheme == "s3" and ":" in host)
    except ValueError:
        known = None
    if not known:
        return f"{text.partition('://')[0]}://... (no address)"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def public_text(text: str) -> str:
    """A message as it may be shown and stored: every URL in it as `public_name` has it."""
    return _URL.sub(lambda url: public_name(re.sub(":/+", "://", url[0], count=1)), text)


def join(folder: str, name: str) -> str:
    """A file in a local folder or below a URL, whose query stays at its end."""
    if not is_url(folder):
        return str(Path(folder) / name)
    parts = urlsplit(folder)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

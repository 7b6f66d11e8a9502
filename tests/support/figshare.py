"""A loopback server that answers as figshare does, whole or not."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.download import CHUNK, DATASETS, download

NUMBERS = DATASETS["fx10"].files
IMAGES, RECORDING = NUMBERS
ARTICLE = f"/v2/articles/{DATASETS['fx10'].article}"
SIZES = {IMAGES: 5 * CHUNK + 123, RECORDING: 1000}
CONTENT = {name: np.random.default_rng(0).bytes(size) for name, size in SIZES.items()}


def entry(name: str) -> dict[str, Any]:
    md5 = hashlib.md5(CONTENT[name]).hexdigest()
    computed, supplied = (md5, "") if name == IMAGES else ("", md5)
    identity = {"id": NUMBERS[name], "size": SIZES[name]}
    return {**identity, "computed_md5": computed, "supplied_md5": supplied}


@dataclass
class Figshare:
    """What the server tells and does, faults by file name, and what it was asked and sent."""

    url: str = ""
    content: dict[str, bytes] = field(default_factory=CONTENT.copy)
    entries: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: entry(name) for name in NUMBERS}
    )
    listed: set[str] = field(default_factory=lambda: set(NUMBERS))
    article: bytes | None = None
    cut_after: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    ignore_range: bool = False
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def __call__(self, directory: Path, *, quiet: bool = True) -> list[Path]:
        api, files = f"{self.url}/v2", f"{self.url}/files/"
        return download("fx10", directory, quiet=quiet, api=api, files=files)

    def ranges(self, name: str) -> list[str | None]:
        """List the Range headers with which one file was asked for."""
        return [sent for path, sent in self.asked if path == f"/files/{NUMBERS[name]}"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, figshare: Figshare, *args: Any) -> None:
        self.figshare = figshare
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        served, kind = self.figshare, self.path.split("/")[1]
        name = {str(n): name for name, n in NUMBERS.items()}.get(self.path.split("/")[-1], "")
        if kind != "v2":
            served.asked.append((self.path, self.headers["Range"]))
        if self.path == ARTICLE:
            files = [e for n, e in served.entries.items() if n in served.listed]
            self.answer(200, served.article or json.dumps({"files": files}).encode())
        elif kind == "v2" and name in served.entries:
            self.answer(200, json.dumps(served.entries[name]).encode())
        elif kind == "mirror" or (kind == "files" and name not in served.status):
            self.answer_file(name)
        else:
            self.answer(served.status.get(name, 404), b"")

    def answer_file(self, name: str) -> None:
        served, content, wanted = self.figshare, self.figshare.content[name], self.headers["Range"]
        cut = served.cut_after.pop(name, None)
        if wanted is None or served.ignore_range:
            served.sent += self.answer(200, content, cut)
        elif (first := int(wanted.removeprefix("bytes=").removesuffix("-"))) < len(content):
            served.sent += self.answer(206, content[first:], cut)
        else:
            self.answer(416, b"never to be kept")

    def answer(self, status: int, body: bytes, cut: int | None = None) -> int:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.close_connection = cut is not None
        return self.wfile.write(body[:cut])


@contextmanager
def started() -> Iterator[Figshare]:
    """A figshare that answers."""
    served = Figshare()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, served)) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()

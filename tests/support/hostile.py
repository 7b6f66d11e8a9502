"""A server on loopback that answers as it likes, byte by byte, and a clock that does not wait."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

#: Sends the answer to a request for a path and a range of bytes, which may be absent.
Answer = Callable[[socket.socket, str, "range | None"], None]


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """The URL of a server that gives each connection one answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=server.accept()[:1], daemon=True).start()

        def one(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                first, *lines = client.recv(65536).decode().split("\r\n")
                fields = dict(line.split(": ", 1) for line in lines if ": " in line)
                begin, _, end = fields.get("Range", "").removeprefix("bytes=").partition("-")
                part = range(int(begin), int(end) + 1) if begin and end else None
                answer(client, first.split()[1].partition("?")[0].removeprefix("/"), part)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://lab:s3cr3t@127.0.0.1:{server.getsockname()[1]}"


def head(client: socket.socket, status: str, **fields: object) -> None:
    """Send a status and headers; `_` in a name stands for `-`."""
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    client.sendall("\r\n".join([*lines, "\r\n"]).encode())


def file(client: socket.socket, path: Path, part: range | None) -> None:
    """Send a file or a part of it, or 404."""
    if not path.is_file():
        head(client, "404 Not Found", Content_Length=0)
        return
    content, size = path.read_bytes(), path.stat().st_size
    if part is None:
        head(client, "200 OK", Content_Length=size)
    else:
        part = range(part.start, min(part.stop, size))
        content = content[part.start : part.stop]
        place = f"bytes {part.start}-{part.stop - 1}/{size}"
        head(client, "206 Partial Content", Content_Length=len(content), Content_Range=place)
    client.sendall(content)


def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let pauses pass at once, on a clock of their own; the list holds what was waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("cache.stores.base.RemoteStore._last_told", -5.0)
    monkeypatch.setattr("cache.stores.base.sleep", sleep)
    monkeypatch.setattr("cache.stores.base.clock", lambda: sum(waited))
    return waited

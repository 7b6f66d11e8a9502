"""Servers that a stranger's URL may lead to: silent, dripping, endless, busy, lying."""

from __future__ import annotations

import gzip
import time
from socket import socket

from support.hostile import Answer, head

Part = range | None


def _silent(client: socket, path: str, part: Part) -> None:
    time.sleep(300)


def _dripping_headers(client: socket, path: str, part: Part) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        client.sendall(b"x")
        time.sleep(1)


def _dripping_body(client: socket, path: str, part: Part) -> None:
    head(client, "206 Partial Content")
    while True:
        client.sendall(b"x")
        time.sleep(1)


def _gzip_bomb(client: socket, path: str, part: Part) -> None:
    bomb = gzip.compress(bytes(2**26))
    head(client, "206 Partial Content", Content_Encoding="gzip", Content_Length=len(bomb))
    client.sendall(bomb)


def _endless(client: socket, path: str, part: Part) -> None:
    head(client, "206 Partial Content")
    while True:
        client.sendall(bytes(2**16))


def _endless_headers(client: socket, path: str, part: Part) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"X: y\r\n" * 1000)


def _busy(client: socket, path: str, part: Part) -> None:
    head(client, "503 Service Unavailable", Content_Length=0)


def _busy_for_days(client: socket, path: str, part: Part) -> None:
    head(client, "503 Service Unavailable", Content_Length=0, Retry_After=10**6)


def _in_circles(client: socket, path: str, part: Part) -> None:
    head(client, "302 Found", Location=f"/{path}?token=s3cr3t", Content_Length=0)


def _elsewhere(client: socket, path: str, part: Part) -> None:
    head(client, "302 Found", Location="http://u:s3cr3t@127.0.0.1:1/a", Content_Length=0)


def _no_http(client: socket, path: str, part: Part) -> None:
    client.sendall(b"\x00\x01 s3cr3t \xff" * 100)


def _huge_claim(client: socket, path: str, part: Part) -> None:
    head(client, "206 Partial Content", Content_Length=10**15)
    client.sendall(b"{" * 2**20)


def _refused(client: socket, path: str, part: Part) -> None:
    head(client, "401 Unauthorized", WWW_Authenticate='Basic realm="s3cr3t"', Content_Length=0)


ANSWERS: dict[str, Answer] = {
    "silent": _silent,
    "dripping headers": _dripping_headers,
    "dripping body": _dripping_body,
    "gzip bomb": _gzip_bomb,
    "endless": _endless,
    "endless headers": _endless_headers,
    "busy": _busy,
    "busy for days": _busy_for_days,
    "in circles": _in_circles,
    "elsewhere": _elsewhere,
    "no http": _no_http,
    "huge claim": _huge_claim,
    "refused": _refused,
}

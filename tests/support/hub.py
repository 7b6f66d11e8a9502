"""A stand-in of the Hugging Face hub on loopback: one dataset's files, as its client sends them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

#: Files below are sent within the commit, others as objects of their own.
SMALL = 500


@dataclass
class Hub:
    """What was sent: files by path, objects by SHA-256, requests in order."""

    token: str
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    #: Refuse uploads of objects after so many.
    most: int = 10**6
    endpoint: str = ""


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, content: Any, status: int = 200, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def is_known(self) -> bool:
            body, known = self.body(), f"Bearer {hub.token}"
            self.content = body
            hub.log.append(f"{self.command} {self.path}")
            return "/object/" in self.path or self.headers.get("Authorization") == known

        def do_POST(self) -> None:
            if not self.is_known():
                return self.answer({"error": "who?"}, 401)
            asked = [] if "/commit/" in self.path else json.loads(self.content)
            if self.path.endswith("/repos/create"):
                return self.answer({"url": f"{hub.endpoint}/datasets/lab/{asked['name']}"})
            if self.path.endswith("/validate-yaml"):
                return self.answer({"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                modes = [
                    {"path": file["path"], "shouldIgnore": False,
                     "uploadMode": "lfs" if file["size"] > SMALL else "regular"}
                    for file in asked["files"]
                ]  # fmt: skip
                return self.answer({"files": modes})
            if self.path.endswith("/lfs/objects/batch"):
                objects = [
                    each if each["oid"] in hub.objects else {**each, "actions": {"upload": {
                        "href": f"{hub.endpoint}/object/{each['oid']}"}}}
                    for each in asked["objects"]
                ]  # fmt: skip
                return self.answer({"transfer": "basic", "objects": objects})
            for line in self.content.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.objects[value["oid"]]
            where = f"{hub.endpoint}/datasets/lab/tokens/commit/{'0' * 40}"
            return self.answer({"commitUrl": where, "commitOid": "0" * 40})

        def do_PUT(self) -> None:
            self.is_known()
            if len(hub.objects) >= hub.most:
                return self.answer({"error": "full"}, 403)
            digest = self.path.rpartition("/")[2]
            assert hashlib.sha256(self.content).hexdigest() == digest
            hub.objects[digest] = self.content
            return self.answer({})

        def do_GET(self) -> None:
            self.is_known()
            path = self.path.partition("/resolve/main/")[2]
            if path not in hub.files:
                return self.answer({"error": "absent"}, 404)
            content = hub.files[path]
            part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if part is None:
                return self.answer(content)
            first = int(part[1]) if part[1] else len(content) - int(part[2])
            end = min(int(part[2]) + 1 if part[1] and part[2] else len(content), len(content))
            if first >= len(content):
                return self.answer(b"", 416)
            shown = f"bytes {first}-{end - 1}/{len(content)}"
            return self.answer(content[first:end], 206, Content_Range=shown)

        do_HEAD = do_GET

    return Handler


@contextlib.contextmanager
def loopback_hub(monkeypatch: pytest.MonkeyPatch, *, token: str = "hf_s3cr3t") -> Iterator[Hub]:
    """The stand-in, at which the hub's client looks for hf:// meanwhile."""
    from huggingface_hub import constants

    hub = Hub(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + template)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", token)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

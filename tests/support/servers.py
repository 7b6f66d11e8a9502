"""Real servers on loopback: nginx for http, moto for S3. Each counts what it sends."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

#: Locations of the web server over the same files: what is asked of a client differs.
CONF = """
daemon off; master_process off; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  log_format counted '$request_method\\t$status\\t$body_bytes_sent\\t$http_range\\t$uri';
  client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
  uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port};
    access_log {home}/access.log counted;
    location /open/ {{ alias {files}/; }}
    location /whole/ {{ alias {files}/; max_ranges 0; }}
    location /private/ {{
      alias {files}/; auth_basic "cache"; auth_basic_user_file {home}/users;
    }}
    location /signed/ {{ if ($arg_signature != "s3cr3t") {{ return 403; }} alias {files}/; }}
    location /broken/ {{ return 503; }}
    location /datasets/lab/tokens/resolve/v1/ {{
      if ($http_authorization != "Bearer hf_s3cr3t") {{ return 401; }}
      rewrite ^/datasets/lab/tokens/resolve/v1/(.*)$ /open/$1 redirect;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Request:
    """One answered request: bytes are those of the body."""

    method: str
    status: int
    bytes: int
    part: str
    path: str


@dataclass
class WebServer:
    """nginx over a folder of files."""

    home: Path
    files: Path
    port: int

    def url(self, path: str, *, location: str = "open", user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.port}/{location}/{path}"

    def requests(self) -> list[Request]:
        """Everything answered since the last call."""
        # nginx notes a request when it is over; one worker notes this one after all others.
        mark = f"/open/mark-{time.monotonic_ns()}"
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}{mark}")
        log = self.home / "access.log"
        until = time.monotonic() + 5
        while not (text := log.read_text()).rstrip().endswith(mark):
            assert time.monotonic() < until, text
            time.sleep(0.01)
        log.write_text("")
        found = []
        for line in text.splitlines():
            method, status, size, part, path = line.split("\t")
            found.append(Request(method, int(status), int(size), part, path))
        return found[:-1]


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def nginx(home: Path) -> Iterator[WebServer]:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    files = home / "files"
    files.mkdir()
    port = free_port()
    (home / "users").write_text("lab:{PLAIN}s3cr3t\n")
    (home / "nginx.conf").write_text(CONF.format(home=home, files=files, port=port))
    process = subprocess.Popen(
        [binary, "-p", home, "-e", home / "error.log", "-c", home / "nginx.conf"]
    )
    try:
        _wait(port, process)
        yield WebServer(home, files, port)
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < until, "nginx does not start"
            time.sleep(0.02)


@dataclass
class S3Server:
    """moto's S3, with a bucket "lab"; access key "wrong" is refused."""

    endpoint: str
    log: list[Request] = field(default_factory=list)

    def requests(self) -> list[Request]:
        """Everything answered since the last call."""
        found, self.log[:] = list(self.log), []
        return found

    def upload(self, folder: Path, prefix: str) -> None:
        import boto3

        client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file():
                key = prefix if path == folder else f"{prefix}/{path.relative_to(folder)}"
                client.upload_file(str(path), "lab", key)
        self.log.clear()

    def __call__(self, environ, start_response):
        """Answer as moto does, and count."""
        if "Credential=wrong/" in environ.get("HTTP_AUTHORIZATION", ""):
            body = b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [body]
        status: list[str] = []

        def started(line, headers, exc_info=None):
            status.append(line)
            return start_response(line, headers, exc_info)

        body = b"".join(self.moto(environ, started))
        self.log.append(
            Request(
                environ["REQUEST_METHOD"],
                int(status[0].split()[0]),
                len(body),
                environ.get("HTTP_RANGE", "-"),
                environ["PATH_INFO"],
            )
        )
        return [body]


@contextlib.contextmanager
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            pass

    from s3fs import S3FileSystem

    server = S3Server("")
    S3FileSystem.clear_instance_cache()
    server.moto = moto.DomainDispatcherApplication(moto.create_backend_app)
    listening = make_server("127.0.0.1", 0, server, threaded=True, request_handler=Quiet)
    server.endpoint = f"http://127.0.0.1:{listening.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": "right",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        import boto3

        boto3.client("s3", endpoint_url=server.endpoint).create_bucket(Bucket="lab")
        yield server
    finally:
        S3FileSystem.clear_instance_cache()
        listening.shutdown()
        thread.join()

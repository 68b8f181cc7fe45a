"""Object stores on this machine: emulators of Google Cloud Storage and S3, and a proxy that counts and fails.

The proxy stands between clients and emulator: it knows every request, and can answer the next ones with an error, drop
their connection, or not answer at all.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
import pytest
import requests
from gcsfs.core import GCSFileSystem

BUCKET = "clips-bucket"


@dataclass
class Trouble:
    """What the next requests of a kind meet: a status code, ``reset`` (dropped connection) or ``cut`` (half a body)."""

    kind: str
    what: int | str
    times: int


@dataclass
class Proxy:
    """Forwards to ``backend``.

    Attributes:
        seen: kind and name of the object of every request, in order.
        delay: seconds that each request waits.
        most: requests that waited at the same time, at most.
    """

    backend: str
    seen: list[tuple[str, str]] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    delay: float = 0.0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""
    _now: int = 0

    def fail(self, kind: str, what: int | str, times: int = 1) -> None:
        """The next ``times`` requests of a kind go wrong."""
        self.troubles.append(Trouble(kind, what, times))

    def counts(self, part: str = "") -> Counter[str]:
        """Requests by kind, of objects whose name has ``part`` in it."""
        with self.lock:
            return Counter(kind for kind, name in self.seen if part in name)

    def clear(self) -> None:
        """Forgets what was seen, and all troubles."""
        with self.lock:
            self.seen.clear()
            self.troubles.clear()

    def wait(self) -> None:
        """For the length of the delay."""
        with self.lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.delay)
        with self.lock:
            self._now -= 1

    def note(self, kind: str, name: str) -> int | str:
        """Notes a request and returns what it is to meet, 0 if nothing."""
        with self.lock:
            self.seen.append((kind, name))
            for trouble in self.troubles:
                if trouble.times and trouble.kind == kind:
                    trouble.times -= 1
                    return trouble.what
        return 0


def kind_of(method: str, target: str) -> tuple[str, str]:
    """What a request of either protocol does, and to which object or prefix."""
    parts = urlsplit(target)
    path, query = unquote(parts.path), unquote(parts.query)
    if "/b/" in path:  # Google's: /storage/v1/b/BUCKET/o/NAME, /upload/..., /download/...
        name = path.partition("/o/")[2]
        if path.startswith("/upload/"):
            return "put", query
        if path.startswith("/download/"):
            return "get", name
        if method == "DELETE":
            return "delete", name
        return ("stat", name) if name else ("list", query)
    name = path.lstrip("/").partition("/")[2]
    if method == "GET" and not name:
        return "list", query
    return {"HEAD": "stat", "GET": "get", "PUT": "put", "POST": "put", "DELETE": "delete"}[method], name


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    backend = urlsplit(proxy.backend)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def forward(self) -> None:
            body = self._body()
            kind, name = kind_of(self.command, self.path)
            trouble = proxy.note(kind, name)
            proxy.wait()
            if trouble == "reset":
                self.close_connection = True
                self.connection.close()
                return
            if isinstance(trouble, int) and trouble:
                self._answer(trouble, [("Content-Type", "text/plain")], b"not now")
                return
            upstream = http.client.HTTPConnection(backend.hostname or "", backend.port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "transfer-encoding")}
            upstream.request(self.command, self.path, body=body, headers=headers | {"Content-Length": str(len(body))})
            answer = upstream.getresponse()
            data = answer.read()
            upstream.close()
            skipped = ("connection", "transfer-encoding", "content-length", "date", "server")
            kept = [
                (k, v.replace(proxy.backend, proxy.url)) for k, v in answer.getheaders() if k.lower() not in skipped
            ]
            length = answer.getheader("content-length") if self.command == "HEAD" else None
            self._answer(answer.status, kept, data, length=length, cut=trouble == "cut")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = forward

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                data = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _answer(
            self,
            status: int,
            headers: list[tuple[str, str]],
            data: bytes,
            *,
            length: str | None = None,
            cut: bool = False,
        ) -> None:
            with contextlib.suppress(OSError):  # clients may go before they are answered
                self.send_response(status)
                for key, value in headers:
                    self.send_header(key, value)
                if status not in (204, 304):
                    self.send_header("Content-Length", length or str(len(data)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                self.wfile.write(data[: len(data) // 2] if cut else data)
                self.close_connection = self.close_connection or cut

    return Handler


@contextlib.contextmanager
def proxied(backend: str) -> Iterator[Proxy]:
    """A proxy in front of an HTTP server."""
    proxy = Proxy(backend)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # clients may hang up
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Store:
    """A bucket that is empty at first: its URI, and the proxy that every request passes."""

    uri: str
    proxy: Proxy


def forget_clients() -> None:
    """Clients know their server from when they were made."""
    for protocol in ("gs", "s3"):
        fsspec.get_filesystem_class(protocol).clear_instance_cache()


@contextlib.contextmanager
def google_store() -> Iterator[Store]:
    """A bucket of the emulator of Google Cloud Storage, for this process and those it starts from now on."""
    server = pytest.importorskip("gcp_storage_emulator.server")
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    emulator = server.create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    emulator.start()
    emulator._api._httpd.handle_error = lambda *args: None  # it is loud about clients that hang up
    port = emulator._api._httpd.server_address[1]
    try:
        with proxied(f"http://127.0.0.1:{port}") as proxy, pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
            patch.setenv("FSSPEC_GS_TOKEN", "anon")
            # Asks for the kind of a bucket by gRPC, which no emulator speaks, and waits a minute for the answer.
            patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
            fsspec.register_implementation("gs", GCSFileSystem, clobber=True)
            patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
            forget_clients()
            yield Store(f"gs://{BUCKET}", proxy)
            forget_clients()
    finally:
        emulator.stop()


@contextlib.contextmanager
def amazon_store() -> Iterator[Store]:
    """A bucket of moto's S3, for this process and those it starts from now on."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    try:
        with proxied(f"http://127.0.0.1:{port}") as proxy, pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", proxy.url)
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            forget_clients()
            requests.post(
                f"http://127.0.0.1:{port}/moto-api/reset", timeout=30
            )  # it remembers earlier servers' buckets
            fsspec.filesystem("s3").mkdir(BUCKET)
            forget_clients()
            proxy.clear()
            yield Store(f"s3://{BUCKET}", proxy)
            forget_clients()
    finally:
        server.stop()


STORES = {"gs": google_store, "s3": amazon_store}

"""What the tests of this folder ask their clusters, on a master that is too busy to answer. Needs no cluster."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.engines.clusters import Cluster, answer_of, get_json


@contextmanager
def busy(engine: str, told: Any, silent: int) -> Iterator[Cluster]:
    """A master that drops its first ``silent`` requests without a word."""
    asked = iter(range(1000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if next(asked) < silent:
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Cluster(engine, "", f"http://127.0.0.1:{server.server_port}", Path())
    finally:
        server.shutdown()
        server.server_close()


def test_a_silent_master_has_not_ended_its_jobs() -> None:
    states = ("RUNNING", "FINISHED", "CANCELED", "INITIALIZING", "FAILED")
    told = {"jobs": [{"id": f"job{number}", "status": state} for number, state in enumerate(states)]}
    with busy("flink", told, silent=2) as flink:
        assert get_json(f"{flink.web}/jobs") is None
        assert flink.running_jobs() == ["job0", "job3"]
    apps = {"activeapps": [{"id": "a", "state": "RUNNING"}], "completedapps": [{"id": "b", "state": "KILLED"}]}
    with busy("spark", apps, silent=1) as spark:
        assert spark.jobs() == {"a": "RUNNING", "b": "KILLED"}
    with busy("spark", apps, silent=0) as spark:
        assert spark.running_jobs() == ["a"]


def test_a_master_that_is_gone_is_told() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody listens there as long as it is held
        with pytest.raises(TimeoutError, match="no answer"):
            answer_of(f"http://127.0.0.1:{silent.getsockname()[1]}/jobs", timeout=0.1)

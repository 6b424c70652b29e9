"""What a daemon says of itself where TLS to it fails: its page for supervisors of processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cli.base import EXIT_UNREACHABLE, Stop
from cli.homes import HANGS, down
from cli.reach import hindrance_of, readyz_of
from lossbook.v1.query_pb2 import GetStatusResponse
from store.home import HomeKind, any_home, create_home

PAGE = "[-] certificate: The TLS certificate of this node has ended: nobody lets it in any more. Restart the node."


@contextmanager
def serving(status: int, body: str) -> Iterator[int]:
    """A page at /readyz on a free port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            running.join()


def home(path: Path, http: str) -> Path:
    made = create_home(path / http.replace(":", "-"), HomeKind.NODE, b"{}", bytes(32), "alpha")
    made.config.write_text(f'[listen]\nhttp = "{http}"\n')
    return made.path


def test_where_a_daemon_cannot_be_asked_over_tls_its_readiness_page_is_quoted(tmp_path: Path) -> None:
    with serving(503, f"{PAGE}\nnot ready\n") as port:
        given = home(tmp_path, f"0.0.0.0:{port}")
        assert readyz_of(given) == (f"http://127.0.0.1:{port}/readyz", PAGE)
        with pytest.raises(Stop, match=f"alpha does not answer, but http://127.0.0.1:{port}/readyz does") as stop:
            down(given, "node", "alpha")
    assert stop.value.advice == PAGE
    assert stop.value.exit_code == EXIT_UNREACHABLE


def test_a_daemon_that_does_not_run_or_says_nothing_is_told_as_before(tmp_path: Path) -> None:
    with serving(200, "ready\n") as port:
        assert readyz_of(home(tmp_path, f"127.0.0.1:{port}"))[1] == ""
    for address in ("nowhere", "127.0.0.1:9"):
        given = home(tmp_path, address)
        assert readyz_of(given) == ("", "")
        with pytest.raises(Stop, match=r"alpha does not answer$") as stop:
            down(given, "node", "alpha")
        assert "lossbook node start --home" in stop.value.advice


def test_a_daemon_that_runs_and_does_not_answer_is_not_to_be_started_again(tmp_path: Path) -> None:
    given = home(tmp_path, "127.0.0.1:9")
    with any_home(given).lock(), pytest.raises(Stop, match=f"process {os.getpid()} runs here, but alpha") as stop:
        down(given, "node", "alpha")
    assert stop.value.advice == HANGS
    assert stop.value.exit_code == EXIT_UNREACHABLE


def test_the_first_reason_that_stands_in_the_way_is_what_hinders() -> None:
    def answered(*kinds: str) -> GetStatusResponse:
        reasons = ", ".join(f'{{"kind": "{kind}", "text": "t", "next_step": "n"}}' for kind in kinds)
        return GetStatusResponse(detail_json=f'{{"reasons": [{reasons}]}}')

    assert hindrance_of(answered("idle")) is None
    assert hindrance_of(answered("no-seat")) is None
    assert (hindrance_of(answered("no-seat", "clock", "votes")) or {})["kind"] == "clock"
    assert hindrance_of(GetStatusResponse()) is None

"""`headrace where`: whatever an event, a request or a unit is called, it is asked for and nothing else is."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

import pytest
from support.commands import Headrace

asked: list[str] = []


class _Console(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked.append(self.path)
        body = b'{"events":[],"truncated":false}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Headrace]:
    server = HTTPServer(("127.0.0.1", 0), _Console)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", f"http://127.0.0.1:{server.server_port}")
    asked.clear()
    yield Headrace(monkeypatch)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["u-1", "../sql", "../../metrics", "a/b", "a?b=c#d", "%2e%2e/sql", "ü x"])
def test_a_name_is_no_way_to_anything_else(headrace: Headrace, name: str):
    assert headrace("where", name).exit_code == 0
    (path,) = asked
    assert path.count("/") == 3
    assert unquote(path) == f"/api/events/{name}"

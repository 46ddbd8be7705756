"""The endpoint over real HTTP, a key for it, and a shop to label."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.components.annotate.shop import Endpoint, Shop, answer, chat
from tests.http_server import QuietHandler, serving


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.bodies.append(body)
                state.keys.add(self.headers["Authorization"])
                number = len(state.bodies)
            status, text, headers = state.behave(body, number) or (200, chat(json.dumps(answer(body))), {})
            self.send_response(status)
            for name, value in (
                {"Content-Type": "application/json", "Content-Length": str(len(text.encode()))} | headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # a client that did not wait
                self.wfile.write(text.encode())

        def do_GET(self) -> None:
            status, text = state.models
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    with serving(Handler) as url:
        state.url = f"{url}/v1"
        yield state


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ANNOTATOR_KEY", "sk-secret-123")
    return "sk-secret-123"


@pytest.fixture
def shop(tmp_path: Path, endpoint: Endpoint) -> Shop:
    shop = Shop(tmp_path, endpoint.url)
    shop.write()
    return shop

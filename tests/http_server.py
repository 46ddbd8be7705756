"""A real HTTP server on loopback, which stands for somebody else's in tests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


# How an answer of every part of HTTP can begin, and what then comes of it again and again.
DRIPS = {
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b" "),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n"),
    "other answers before it": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "the size of a part": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
}


def dripping(what: str) -> type[BaseHTTPRequestHandler]:
    """A handler whose answers take three seconds in small pieces, and then have no end."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            begin, piece = DRIPS[what]
            with suppress(OSError):  # a client that did not wait
                self.wfile.write(begin)
                for _ in range(60):
                    self.wfile.write(piece)
                    time.sleep(0.05)

        do_POST = do_GET

    return Handler


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a server that answers with `handler`, as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""An HTTP client with bounds: the time until the last byte of an answer, and its size.

HTTP clients bound the wait for each piece of an answer, so one that drips a byte at a time never ends.
"""

import ssl
import time
from collections.abc import Iterable, Iterator
from threading import local
from typing import Any

import httpcore2
import httpx2

_PIECE = 65_536  # bytes that are sent before the time is looked at again


class TooLarge(httpx2.StreamError):
    """An answer has more bytes than are allowed."""


class _Due(local):
    """When, by `time.monotonic`, the answer to the request that this thread has in flight is due."""

    at = float("inf")

    def left(self, timeout: float | None) -> float | None:
        """The seconds that are left, if they are fewer than `timeout`."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout
        return left if timeout is None or left < timeout else timeout


class _Stream(httpcore2.NetworkStream):
    """A connection on which each wait ends when the answer is due, be it for headers or for a body."""

    def __init__(self, stream: httpcore2.NetworkStream, due: _Due) -> None:
        self._stream, self._due = stream, due

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._due.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[start : start + _PIECE], self._due.left(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._due.left(timeout)), self._due)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Network(httpcore2.SyncBackend):
    def __init__(self, due: _Due) -> None:
        self._due = due

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        stream = super().connect_tcp(host, port, self._due.left(timeout), local_address, socket_options)
        return _Stream(stream, self._due)


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > self._most:
                raise TooLarge(f"larger than {self._most:,} bytes")
            yield part

    def close(self) -> None:
        self._stream.close()


def client(seconds: float, most: int, **options: Any) -> httpx2.Client:
    """A client that follows no redirect, and asks for no compression: a few compressed megabytes can hold gigabytes.

    A late answer raises `httpx2.TimeoutException`, and one that is too large `TooLarge`.

    Args:
        seconds: from the start of a request to the last byte of its answer.
        most: bytes of an answer, as they are sent.
        options: more arguments for `httpx2.Client`.
    """
    due = _Due()

    def begin(_: httpx2.Request) -> None:
        due.at = time.monotonic() + seconds

    def bound(response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Bounded(response.stream, most)

    made = httpx2.Client(timeout=options.pop("timeout", seconds), follow_redirects=False, **options)
    made.headers["Accept-Encoding"] = "identity"
    made.event_hooks["request"].insert(0, begin)
    made.event_hooks["response"].insert(0, bound)
    # httpx2 has no argument for the network below its transports, among them those to the environment's proxies.
    for transport in (made._transport, *made._mounts.values()):
        if isinstance(transport, httpx2.HTTPTransport):
            transport._pool._network_backend = _Network(due)
    return made

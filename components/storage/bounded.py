"""Bounds for HTTP requests: the time until the last byte of an answer, and its size.

HTTP clients bound the wait for each piece of an answer, so one that drips a byte at a time never ends.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

_DEADLINE = "attrloop_deadline"  # extension of a request: the time, by `time.monotonic`, at which its answer is due


class TooLarge(httpx2.StreamError):
    """An answer has more bytes than are allowed."""


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, request: httpx2.Request, most: int) -> None:
        self._stream, self._request, self._most = stream, request, most

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > self._most:
                raise TooLarge(f"larger than {self._most:,} bytes")
            _check(self._request)
            yield part

    def close(self) -> None:
        self._stream.close()


def bounds(seconds: float, most: int) -> dict[str, list[Callable[..., Any]]]:
    """Event hooks for a client. A late answer raises `httpx2.ReadTimeout`, and one that is too large `TooLarge`.

    Args:
        seconds: from the start of a request to the last byte of its answer. It may last one read timeout longer.
        most: bytes of an answer, as they are sent.
    """

    def begin(request: httpx2.Request) -> None:
        request.extensions[_DEADLINE] = time.monotonic() + seconds

    def bound(response: httpx2.Response) -> None:
        _check(response.request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Bounded(response.stream, response.request, most)

    return {"request": [begin], "response": [bound]}


def _check(request: httpx2.Request) -> None:
    if time.monotonic() > request.extensions[_DEADLINE]:
        raise httpx2.ReadTimeout("the answer did not end in time", request=request)

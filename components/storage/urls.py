"""Files behind URLs, brought into the cache of `inputs`: several at once, and each requested once in a process.

Errors show URLs without user, password and query, which may grant access.

The next process asks again, with the validators (ETag, Last-Modified) that the server gave, and only what has changed
is sent again. A content lies in the cache under its own digest, so another content of the same URL has another name.
"""

import hashlib
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import httpx2

from attrloop.components.digests import digest
from attrloop.components.errors import InputError, Problem, explained_disk, fail
from attrloop.components.secrets import public
from attrloop.components.storage import bounded, inputs
from attrloop.components.storage.buckets import SCHEMES
from attrloop.components.storage.files import TEMPORARY, write_atomic

_WORKERS = 8  # requests at once
_DEADLINE = 120.0  # seconds until the last byte of a file
_WAITS = (0.5, 1.0, 2.0)  # seconds before another try
_LONGEST = 60.0  # seconds: no server is waited for longer than this
_VALIDATORS = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}


class _Found(NamedTuple):
    """The name of a content in the cache, and whether this process brought it there."""

    content: str
    brought: bool


class _Later(InputError):
    """A failure that may be temporary: try again after `seconds`."""

    def __init__(self, problem: Problem, seconds: float = 0.0) -> None:
        super().__init__([problem])
        self.seconds = seconds


logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs whole URLs at INFO

_seen: dict[tuple[str, int], _Found | Problem] = {}
_failing: set[str] = set()  # hosts on which every try has failed: their other URLs are tried once


def check(url: str, hosts: Collection[str]) -> None:
    """Refuses a URL that must not be requested.

    Raises:
        InputError: not a URL, not https (except on loopback), or a host that is not among `hosts`.
    """
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise fail(public(url), f"not a URL ({error})", "Correct it") from error
    if parts.scheme != "https" and (parts.scheme != "http" or parts.host not in ("127.0.0.1", "localhost")):
        known = ", ".join(("https", *SCHEMES))
        raise fail(public(url), f"scheme {parts.scheme!r} is not fetched", f"Use {known} or a local path")
    if not {parts.host, parts.raw_host.decode()} & set(hosts):  # in letters, or as punycode
        raise fail(public(url), f"host {parts.host!r} is not allowed", "Add it to data.allowed_hosts if you trust it")


def fetch(urls: Iterable[str], most: int) -> None:
    """Brings files of at most `most` bytes into the cache. `read` reports what is wrong with the others."""

    def bring(url: str) -> None:
        with suppress(InputError):
            _look(url, most)

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(bring, [url for url in dict.fromkeys(urls) if (url, most) not in _seen]))


def read(url: str, most: int) -> bytes:
    """The content of a file of at most `most` bytes, the same throughout a process.

    Raises:
        InputError: the file is larger, cannot be fetched, or has changed.
    """
    found = _look(url, most)
    while True:
        file = inputs.cached() / found.content
        try:
            os.utime(file)
            return file.read_bytes()
        except FileNotFoundError:  # another process that shares the cache has removed it
            again = _ask(url, most)
            if again.content != found.content:
                raise fail(public(url), "it has changed since it was first looked at", "Start again") from None
            _seen[url, most] = again


def forget(urls: Iterable[str], most: int) -> None:
    """Drops what is known of URLs and what this process has brought of them; as `inputs.forget`."""
    for url in urls:
        found = _seen.pop((url, most), None)
        if isinstance(found, _Found) and found.brought:
            for file in (inputs.cached() / found.content, _record(url)):
                file.unlink(missing_ok=True)


def _look(url: str, most: int) -> _Found:
    if (url, most) not in _seen:
        try:
            _seen[url, most] = _ask(url, most)
        except InputError as error:  # remembered, so that it is not requested again for each use
            _seen[url, most] = error.problems[0]
    found = _seen[url, most]
    if isinstance(found, Problem):
        raise InputError([found])
    return found


def _ask(url: str, most: int) -> _Found:
    host = httpx2.URL(url).host
    waits = iter(() if host in _failing else _WAITS)
    while True:
        try:
            found = _ask_once(url, most)
        except _Later as later:
            wait = next(waits, None)
            if wait is None or later.seconds > _LONGEST:
                _failing.add(host)
                raise
            time.sleep(max(wait, later.seconds))
        else:
            _failing.discard(host)
            return found


def _ask_once(url: str, most: int) -> _Found:
    known, headers = _known(url, most)
    try:
        with _client(os.getpid()).stream("GET", url, headers=headers) as response:
            if response.status_code == 200:
                return _keep(url, response, most)
            if response.status_code == 304 and known:
                return _Found(known, brought=False)
            problem = Problem(public(url), f"HTTP status {response.status_code}", _remedy(response))
            if response.status_code == 429 or response.status_code >= 500:
                raise _Later(problem, _asked_for(response.headers.get("Retry-After", "")))
            raise InputError([problem])
    except httpx2.HTTPError as error:
        late = isinstance(error, httpx2.TimeoutException)
        why = "the answer did not end in time" if late else str(error) or type(error).__name__
        raise _Later(Problem(public(url), f"cannot be fetched ({why})", "Check the URL and the network")) from None


@cache
def _client(process: int) -> httpx2.Client:
    """One per process, since connections do not survive a fork.

    No redirect is followed: it could leave the allowed hosts.
    """
    return bounded.client(_DEADLINE, sys.maxsize, timeout=20)  # the size is checked after decompression


def _remedy(response: httpx2.Response) -> str:
    if response.status_code == 429 or response.status_code >= 500:
        return "Try again later"
    if not response.has_redirect_location:
        return "Check the URL"
    host = response.url.join(response.headers["Location"]).host
    return f"Redirects are not followed: give the final address, which is on {host}"


def _asked_for(retry_after: str) -> float:
    """Seconds to wait, from a header that holds seconds or a date."""
    if retry_after.isdecimal():
        return float(retry_after)
    with suppress(TypeError, ValueError):
        return (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    return 0.0


def _record(url: str) -> Path:
    """The file that tells the next process the name of the content and the headers to ask for a newer one with."""
    return inputs.cached() / f"{digest(url)}.json"


def _known(url: str, most: int) -> tuple[str, dict[str, str]]:
    try:
        known = json.loads(_record(url).read_bytes())
        for file in (_record(url), inputs.cached() / known["content"]):
            os.utime(file)
        return (known["content"], known["headers"]) if file.stat().st_size <= most else ("", {})
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not there, or damaged
        return "", {}


def _keep(url: str, response: httpx2.Response, most: int) -> _Found:
    temporary, hashed, size = inputs.cached() / f"{TEMPORARY}{uuid.uuid4().hex}", hashlib.sha256(), 0
    try:
        with explained_disk(public(url)), temporary.open("wb") as file:
            for part in response.iter_bytes():
                size += file.write(part)
                hashed.update(part)
                if size > most:
                    what = f"larger than {most:,} bytes"
                    raise fail(public(url), what, "Shrink the image or raise data.max_image_bytes")
        content = hashed.hexdigest()
        os.replace(temporary, inputs.cached() / content)
    finally:
        temporary.unlink(missing_ok=True)
    headers = {
        ask: value for told, ask in _VALIDATORS.items() if (value := response.headers.get(told, "")) and value.isascii()
    }
    if headers:
        write_atomic(_record(url), json.dumps({"content": content, "headers": headers}).encode())
    return _Found(content, brought=True)

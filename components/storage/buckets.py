"""Buckets: the object stores that there are, and what each of them can do.

A URI is `<scheme>://<bucket>/<key>`. `SCHEMES` names the class behind each scheme; everything else that depends on
the kind of store follows from this table. A store's library is imported when the first such URI is opened.
"""

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from attrloop.components.errors import AttrloopError, InputError, Problem, fail

SCHEMES = {
    "gs": "attrloop.components.storage.gcs:GcsBucket",
    "s3": "attrloop.components.storage.s3:S3Bucket",
}
WORKERS = 8  # transfers at once; the connection pools of the stores' libraries hold 10


class ObjectInfo(NamedTuple):
    """What a bucket knows of an object. Small, since there is one for every image of a catalogue.

    Attributes:
        size: in bytes.
        version: changes whenever the object is replaced by another content.
        digest: the same for the same content, as far as the bucket can tell.
    """

    size: int
    version: str
    digest: str


class Fault(NamedTuple):
    """Why a request failed.

    Attributes:
        what: the reason.
        remedy: what to do.
        absent: whether there is no such object or bucket.
    """

    what: str
    remedy: str
    absent: bool = False

    def error(self, uri: str) -> AttrloopError:
        """The error to raise.

        It is an `InputError` only when something is absent. Other faults are not caused by a single listing, so the run
        must stop.
        """
        problem = Problem(uri, self.what, self.remedy)
        return InputError([problem]) if self.absent else AttrloopError(str(problem))


ABSENT = Fault(
    "no such file or bucket", "Correct the path, run the step that writes it, or create the bucket", absent=True
)


def refused(reason: str, remedy: str) -> Fault:
    """The bucket does not let these credentials do this."""
    return Fault(f"access is refused ({reason})", remedy)


def failed(reason: str) -> Fault:
    """The bucket cannot answer this request."""
    return Fault(f"the request failed ({reason})", "Check the path and the bucket's settings")


def out_of_reach(reason: str) -> Fault:
    """The service did not answer, or said that it cannot at the moment."""
    return Fault(f"out of reach ({reason})", "Check the network, then start again: what is finished is kept")


class Bucket(Protocol):
    """A bucket of objects by key.

    Every method is safe to repeat and to call from several threads, and is tried again when the service falters.
    Failures are those of the store's own library; `explained` turns them into errors for people.
    """

    def __init__(self, name: str) -> None:
        """Makes no request: credentials are looked for when the first method is called."""

    def look(self, key: str) -> ObjectInfo | None:
        """What is known of an object; None when there is none."""

    def list(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        """Every object whose key begins with `prefix`, with its key. Requests are made as the iterator advances."""

    def read(self, key: str) -> bytes:
        """The content of an object."""

    def write(self, key: str, data: bytes) -> None:
        """Creates or replaces an object."""

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object unless it exists; False when it does. Of concurrent callers exactly one gets True."""

    def delete(self, key: str) -> None:
        """Removes an object; no error when there is none."""

    def download(self, key: str, version: str, target: Path) -> None:
        """Writes exactly this version of an object to a local file; fails when it has been replaced."""

    def upload(self, key: str, source: Path) -> str:
        """Creates or replaces an object with the content of a local file of any size; returns its version."""

    def explain(self, error: Exception) -> Fault | None:
        """Why a method failed; None for an error that has nothing to do with the store."""


class Location(NamedTuple):
    """A URI in parts; `key` is "" for the bucket itself."""

    scheme: str
    bucket: str
    key: str


def scheme(path: str | Path) -> str:
    """The scheme of a URI; "" for a local path."""
    before, separator, _ = str(path).partition("://")
    return before if separator else ""


def in_bucket(path: str | Path) -> bool:
    """Whether a path is the URI of something in a bucket."""
    return scheme(path) in SCHEMES


def locate(uri: str) -> Location:
    """Takes the URI of an object, a folder or a bucket apart.

    Raises:
        InputError: the scheme is not one of `SCHEMES`, or the URI names no bucket.
    """
    if not in_bucket(uri):
        raise fail(uri, f"{scheme(uri)!r} is not a kind of storage", f"Give a local path or {supported()}")
    kind, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise fail(uri, "names no bucket", f"Write {kind}://<bucket>/<path>")
    return Location(kind, bucket, key.strip("/"))


def supported(path: str = "<bucket>/<path>") -> str:
    """The URIs that can be given, for messages."""
    return " or ".join(f"{known}://{path}" for known in SCHEMES)


def open_bucket(uri: str) -> Bucket:
    """The bucket that a URI names; no request is made.

    Raises:
        InputError: as `locate`; or the library for this scheme is not installed.
    """
    place = locate(uri)
    return _open(place.scheme, place.bucket)


@cache
def _open(kind: str, name: str) -> Bucket:
    try:
        return pkgutil.resolve_name(SCHEMES[kind])(name)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        what = f"needs the Python package {package}, which is not installed"
        raise fail(f"{kind}://{name}", what, f"Install attrloop[{kind}]") from error


@contextmanager
def explained(bucket: Bucket, uri: str) -> Iterator[None]:
    """Says what went wrong at a URI, and what to do.

    Raises:
        InputError: there is no such object or bucket.
        AttrloopError: no credentials, no access, or the service is out of reach.
    """
    try:
        yield
    except Exception as error:
        fault = bucket.explain(error)
        if fault is None:
            raise
        raise fault.error(uri) from error


def first_line(error: Exception) -> str:
    """What an error says, in at most 200 characters."""
    return (str(getattr(error, "message", "") or error).splitlines() or [type(error).__name__])[0][:200]

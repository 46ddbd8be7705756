"""A `Store` in a Google Cloud Storage bucket.

Credentials are the application default ones: on a cluster those of the pod's service account, by workload identity. STORAGE_EMULATOR_HOST
names an emulator instead, which needs none.
"""

import atexit
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from tempfile import mkdtemp

from google.api_core.exceptions import (
    ClientError,
    Forbidden,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    RetryError,
    Unauthorized,
)
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.cloud.storage.exceptions import DataCorruption
from requests.exceptions import RequestException

from attrloop.components.digests import digest
from attrloop.components.errors import AttrloopError, InputError, Problem, explained_disk, fail
from attrloop.components.storage.files import TEMPORARY, cache_folder
from attrloop.components.storage.store import INPUTS, MANIFEST, SCHEME

WORKERS = 8  # transfers at once: what the connection pool of `requests` holds is 10
_CHUNK = 32 * 2**20  # bytes: what of a large upload is sent again when the connection breaks
_MARK = ".being-kept"  # an object in a folder whose upload has begun and not ended: to readers there is no such folder


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Says what went wrong at a URI, and what to do.

    Raises:
        InputError: there is no such object or bucket.
        AttrloopError: no credentials, no access, the service is out of reach. No `InputError`, for these are never the fault of one listing.
    """
    try:
        yield
    except NotFound as error:
        raise _absent(uri) from error
    except (Forbidden, Unauthorized) as error:
        remedy = "Give this task's service account a role on the bucket, such as roles/storage.objectUser, and check its workload identity"
        raise _denied(uri, f"access is refused (HTTP {error.code}: {_first_line(error)})", remedy) from error
    except GoogleAuthError as error:
        remedy = "On a cluster give the pod a service account with workload identity; elsewhere run `gcloud auth application-default login`"
        raise _denied(uri, f"no Google credentials that can be used ({_first_line(error)})", remedy) from error
    except (ClientError, DataCorruption) as error:
        raise _denied(
            uri, f"the request failed ({_first_line(error)})", "Check the path and the bucket's settings"
        ) from error
    except (GoogleAPICallError, RetryError, RequestException) as error:
        raise _denied(
            uri, f"out of reach ({_first_line(error)})", "Check the network, then start again: what is finished is kept"
        ) from error


def _absent(uri: str) -> InputError:
    return fail(uri, "no such file or bucket", "Correct the path, run the step that writes it, or create the bucket")


def _denied(uri: str, what: str, remedy: str) -> AttrloopError:
    return AttrloopError(str(Problem(uri, what, remedy)))


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "message", "") or error).splitlines() or [type(error).__name__])[0][:200]


def split(uri: str) -> tuple[str, str]:
    """Bucket and name of a `gs://` URI; the name of a bucket itself is ""."""
    bucket, _, name = uri.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise fail(uri, "names no bucket", "Write gs://<bucket>/<path>")
    return bucket, name.strip("/")


def bucket_of(uri: str) -> storage.Bucket:
    """The bucket that a URI names; no request is made."""
    with explained(uri):
        return _client(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST", "")).bucket(split(uri)[0])


@cache
def _client(process: int, emulator: str) -> storage.Client:
    """One per process, since connections do not survive a fork, and per emulator."""
    return storage.Client(project=None)


class GcsStore:
    """A `Store` in a bucket. `folder` and `file` are copies in a temporary folder of this process, which therefore hold nothing stale.

    A file is there as a whole or not at all, as the service has it. A folder is marked while it is being kept, and hidden as long as it is
    marked: a reader never takes a half-uploaded one for complete.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        name = split(self.root)[1]
        self.home = cache_folder() / "home" / digest(self.root)
        self._prefix = f"{name}/" if name else ""
        self._held: dict[
            str, tuple[int, int, int]
        ] = {}  # path -> generation that the local copy equals, and the copy's time and size

    @cached_property
    def _copies(self) -> Path:
        folder = Path(mkdtemp(prefix="attrloop-"))
        atexit.register(
            shutil.rmtree, folder, ignore_errors=True
        )  # not sooner: a path may outlive the store that gave it
        return folder

    @property
    def _bucket(self) -> storage.Bucket:
        return bucket_of(self.root)

    def _uri(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _local(self, path: str) -> Path:
        return self._copies / path

    def exists(self, path: str) -> bool:
        with explained(self._uri(path)):
            return self._bucket.blob(self._prefix + path).exists()

    def read(self, path: str) -> bytes:
        with explained(self._uri(path)):
            return self._bucket.blob(self._prefix + path).download_as_bytes()

    def write(self, path: str, data: bytes) -> None:
        with explained(self._uri(path)):
            self._bucket.blob(self._prefix + path).upload_from_string(data, "application/octet-stream")

    def create(self, path: str, data: bytes) -> bool:
        blob, mine = self._bucket.blob(self._prefix + path), uuid.uuid4().hex
        blob.metadata = {"created-by": mine}
        with explained(self._uri(path)):
            try:
                blob.upload_from_string(data, "application/octet-stream", if_generation_match=0)
            except PreconditionFailed:
                # The client tries again when an answer is lost, and may meet the object that it made itself.
                found = self._bucket.get_blob(blob.name)
                return found is not None and (found.metadata or {}).get("created-by") == mine
        return True

    def check(self) -> list[Problem]:
        if not self._prefix:
            return [
                Problem(
                    self.root,
                    "a bucket itself cannot be a workspace",
                    f"Name a folder in it, e.g. {self.root}/runs/first",
                )
            ]
        with explained(self.root):
            next(iter(self._bucket.list_blobs(prefix=self._prefix, max_results=1)), None)
        return []

    def list(self, prefix: str) -> list[str]:
        return sorted(self._complete(prefix))

    def remove(self, prefix: str) -> None:
        names = set(self._stored(prefix))
        # A kill in between leaves neither a manifest without its files, nor files without what says from which inputs they were made.
        first, last = ({name for name in names if name.endswith(f"/{part}")} for part in (MANIFEST, INPUTS))
        for group in (first, names - first - last, last):
            self._delete(prefix, group)

    def folder(self, path: str) -> Path:
        stored, local = self._complete(path), self._local(path)
        for file in [file for file in local.rglob("*") if file.is_file()]:
            if str(file.relative_to(self._copies)) not in stored:
                file.unlink()
        self._pull(path, stored)
        local.mkdir(parents=True, exist_ok=True)
        return local

    def file(self, path: str) -> Path:
        with explained(self._uri(path)):
            blob = self._bucket.get_blob(self._prefix + path)
            if blob is None:
                raise _absent(self._uri(path))
        self._pull(path, {path: blob})
        return self._local(path)

    def keep(self, path: str) -> None:
        local = self._local(path)
        if local.is_file():
            if self._held.get(path, ())[1:] != _stamp(local):  # else it came from there, or is there already
                self._push(path, [path])
            return
        if not local.is_dir():
            raise FileNotFoundError(local)
        files = [file for file in local.rglob("*") if file.is_file() and not file.name.startswith(TEMPORARY)]
        names = [str(file.relative_to(self._copies)) for file in files]
        stored, mark = self._stored(path), f"{path}/{_MARK}"
        changed = [name for name in names if name not in stored or not self._holds(name, stored[name])]
        gone = sorted(set(stored) - set(names) - {mark})
        if changed or gone or mark in stored:
            self.write(mark, b"")
            self._push(path, changed)
            self._delete(path, gone)
            self._delete(path, [mark])

    def _stored(self, path: str) -> dict[str, storage.Blob]:
        """Every object below a folder, by path."""
        with explained(self._uri(path)):
            found = self._bucket.list_blobs(prefix=self._prefix + (f"{path.rstrip('/')}/" if path else ""))
            return {blob.name.removeprefix(self._prefix): blob for blob in found}

    def _complete(self, path: str) -> dict[str, storage.Blob]:
        """The same without folders that are being kept."""
        stored = self._stored(path)
        unfinished = tuple(name.removesuffix(_MARK) for name in stored if name.endswith(f"/{_MARK}"))
        return {name: blob for name, blob in stored.items() if not name.startswith(unfinished)}

    def _holds(self, name: str, blob: storage.Blob) -> bool:
        """Whether the local copy is what is stored."""
        local = self._local(name)
        return local.is_file() and self._held.get(name) == (blob.generation, *_stamp(local))

    def _pull(self, path: str, blobs: dict[str, storage.Blob]) -> None:
        wanted = {name: blob for name, blob in blobs.items() if not self._holds(name, blob)}
        download(self._uri(path), {self._local(name): blob for name, blob in wanted.items()})
        self._held |= {name: (blob.generation, *_stamp(self._local(name))) for name, blob in wanted.items()}

    def _push(self, path: str, names: Iterable[str]) -> None:
        blobs = {name: self._bucket.blob(self._prefix + name, chunk_size=_CHUNK) for name in names}
        stamps = {name: _stamp(self._local(name)) for name in blobs}
        pairs = [(str(self._local(name)), blob) for name, blob in blobs.items()]
        with explained(self._uri(path)):
            try:
                transfer_manager.upload_many(
                    pairs, worker_type=transfer_manager.THREAD, max_workers=WORKERS, raise_exception=True
                )
            finally:  # what got there is not sent again by another attempt
                self._held |= {
                    name: (blob.generation, *stamps[name]) for name, blob in blobs.items() if blob.generation
                }

    def _delete(self, path: str, names: Iterable[str]) -> None:
        def delete(name: str) -> None:
            try:
                self._bucket.blob(self._prefix + name).delete()
            except NotFound:  # somebody else was faster, or a retried request had succeeded
                return

        with explained(self._uri(path)), ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(delete, names))


def download(uri: str, blobs: dict[Path, storage.Blob]) -> None:
    """Downloads objects to local paths, several at once."""
    for target in blobs:
        target.parent.mkdir(parents=True, exist_ok=True)
    pairs = [(blob, str(target)) for target, blob in blobs.items()]
    with explained(uri), explained_disk(uri):
        transfer_manager.download_many(
            pairs, worker_type=transfer_manager.THREAD, max_workers=WORKERS, raise_exception=True
        )


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size

"""Google Cloud Storage: `gs://<bucket>/<key>`.

Credentials are the application default ones: on a cluster those of the pod's service account, by workload identity.
STORAGE_EMULATOR_HOST names an emulator instead, which needs none.
"""

import os
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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
from google.cloud.storage.exceptions import DataCorruption
from requests.exceptions import RequestException
from typing_extensions import override

from attrloop.components.digests import digest
from attrloop.components.storage.buckets import (
    ABSENT,
    Bucket,
    Fault,
    ObjectInfo,
    failed,
    first_line,
    out_of_reach,
    refused,
)

_CHUNK = 32 * 2**20  # bytes of an upload that are sent again when the connection breaks
_ROLE = (
    "Give this task's service account a role on the bucket, such as roles/storage.objectUser, "
    "and check its workload identity"
)
_LOGIN = (
    "On a cluster give the pod a service account with workload identity; "
    "elsewhere run `gcloud auth application-default login`"
)


class GcsBucket(Bucket):
    """A bucket of Google Cloud Storage. The version of an object is its generation."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def _bucket(self) -> storage.Bucket:
        return _client(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST", "")).bucket(self.name)

    @override
    def look(self, key: str) -> ObjectInfo | None:
        blob = self._bucket.get_blob(key)
        return None if blob is None else _info(blob)

    @override
    def list(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        for blob in self._bucket.list_blobs(prefix=prefix):
            yield blob.name, _info(blob)

    @override
    def read(self, key: str) -> bytes:
        return self._bucket.blob(key).download_as_bytes()

    @override
    def write(self, key: str, data: bytes) -> None:
        self._bucket.blob(key).upload_from_string(data, "application/octet-stream")

    @override
    def create(self, key: str, data: bytes) -> bool:
        blob, mine = self._bucket.blob(key), uuid.uuid4().hex
        blob.metadata = {"created-by": mine}
        try:
            blob.upload_from_string(data, "application/octet-stream", if_generation_match=0)
        except (PreconditionFailed, Forbidden) as error:
            # The client tries again when an answer is lost, and may then meet the object that it made itself. An
            # account that may only create may be told that it must not replace what is there.
            found = self._bucket.get_blob(key)
            if found is None and isinstance(error, Forbidden):
                raise
            return found is not None and (found.metadata or {}).get("created-by") == mine
        return True

    @override
    def delete(self, key: str) -> None:
        try:
            self._bucket.blob(key).delete()
        except NotFound:
            return

    @override
    def download(self, key: str, version: str, target: Path) -> None:
        self._bucket.blob(key, generation=int(version)).download_to_filename(str(target))

    @override
    def upload(self, key: str, source: Path) -> str:
        blob = self._bucket.blob(key, chunk_size=_CHUNK)
        blob.upload_from_filename(str(source))
        return str(blob.generation)

    @override
    def explain(self, error: Exception) -> Fault | None:
        match error:
            case NotFound():
                return ABSENT
            case Forbidden() | Unauthorized():
                return refused(f"HTTP {error.code}: {first_line(error)}", _ROLE)
            case GoogleAuthError():
                return Fault(f"no Google credentials that can be used ({first_line(error)})", _LOGIN)
            case ClientError() | DataCorruption():
                return failed(first_line(error))
            case GoogleAPICallError() | RetryError() | RequestException():
                return out_of_reach(first_line(error))
        return None


@cache
def _client(process: int, emulator: str) -> storage.Client:
    """One per process, since connections do not survive a fork, and per emulator."""
    return storage.Client(project=None)


def _info(blob: storage.Blob) -> ObjectInfo:
    # An object that was composed of others has no MD5.
    content = blob.md5_hash or f"{blob.crc32c}-{blob.size}-{blob.generation}"
    return ObjectInfo(blob.size, str(blob.generation), digest(content))

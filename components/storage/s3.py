"""Amazon S3 and stores that speak its protocol: `s3://<bucket>/<key>`.

Credentials and region are configured as for any program that uses boto3: by the environment, a profile, or the role of
the pod's service account. AWS_ENDPOINT_URL names another service, which must support conditional writes
(`If-None-Match`). AWS_MAX_ATTEMPTS says how often a request is tried, 8 times by default.
"""

import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING

from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from typing_extensions import override

from attrloop.components.digests import digest
from attrloop.components.storage.buckets import (
    ABSENT,
    WORKERS,
    Bucket,
    Fault,
    ObjectInfo,
    failed,
    first_line,
    out_of_reach,
    refused,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

_making = Lock()  # a client takes long to make: threads that want the same wait for it
_ATTEMPTS = 8  # a request is tried over about a minute
_CHUNK = 2**20  # bytes of a download in memory
_PERMISSIONS = "Allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on the bucket to this task's role"
_LOGIN = (
    "On a cluster give the pod a service account with an IAM role; "
    "elsewhere set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
)
_BAD_CREDENTIALS = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)


class S3Bucket(Bucket):
    """A bucket of S3. The version of an object is its ETag; an object replaced by the same content may keep it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def _client(self) -> "S3Client":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        with _making:
            return _client(os.getpid(), endpoint)

    @override
    def look(self, key: str) -> ObjectInfo | None:
        found = self._head(key)
        return None if found is None else _info(found["ETag"], found["ContentLength"])

    @override
    def list(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            for found in page.get("Contents", ()):
                yield found["Key"], _info(found["ETag"], found["Size"])

    @override
    def read(self, key: str) -> bytes:
        content = io.BytesIO()
        _copy(lambda: self._client.get_object(Bucket=self.name, Key=key), content)
        return content.getvalue()

    @override
    def write(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    @override
    def create(self, key: str, data: bytes) -> bool:
        mine = {"created-by": uuid.uuid4().hex}
        for _ in range(_ATTEMPTS):
            try:
                self._client.put_object(Bucket=self.name, Key=key, Body=data, IfNoneMatch="*", Metadata=mine)
                return True
            except ClientError as error:
                if _status(error) not in (409, 412):
                    raise
                conflict = error
            # The client tries again when an answer is lost, and may then meet the object that it made itself.
            if (found := self._head(key)) is not None:
                return found["Metadata"] == mine
            # Another creation was under way, and has failed.
        raise conflict

    @override
    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    @override
    def download(self, key: str, version: str, target: Path) -> None:
        with target.open("wb") as file:
            _copy(lambda: self._client.get_object(Bucket=self.name, Key=key, IfMatch=version), file)

    @override
    def upload(self, key: str, source: Path) -> str:
        mine = {"created-by": uuid.uuid4().hex}
        with source.open("rb") as file:
            self._client.upload_fileobj(
                file, self.name, key, ExtraArgs={"Metadata": mine}, Config=TransferConfig(use_threads=False)
            )
        found = self._head(key)  # the upload does not tell the version
        return found["ETag"] if found is not None and found["Metadata"] == mine else ""

    def _head(self, key: str) -> "HeadObjectOutputTypeDef | None":
        try:
            return self._client.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if _status(error) == 404:
                return None
            raise

    @override
    def explain(self, error: Exception) -> Fault | None:
        match error:
            case ClientError():
                return _explain(error)
            case ConnectionError() | HTTPClientError() | IncompleteReadError():
                return out_of_reach(first_line(error))
            case BotoCoreError() if isinstance(error, _NO_CREDENTIALS):
                return Fault(f"no AWS credentials that can be used ({first_line(error)})", _LOGIN)
            case BotoCoreError():
                return failed(first_line(error))
        return None


@cache
def _client(process: int, endpoint: str) -> "S3Client":
    """One per process, since connections do not survive a fork, and per endpoint."""
    attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", _ATTEMPTS))
    config = Config(retries={"mode": "standard", "total_max_attempts": attempts}, max_pool_connections=WORKERS + 2)
    return Session().client("s3", config=config)


def _copy(get: "Callable[[], GetObjectOutputTypeDef]", file: IO[bytes]) -> None:
    """Writes the body of a `get` to a file, and tries again when it breaks off, which boto3 does not do."""
    for left in reversed(range(_ATTEMPTS)):
        body = get()["Body"]
        file.seek(0)
        file.truncate()
        try:
            shutil.copyfileobj(body, file, _CHUNK)
            return
        except (HTTPClientError, IncompleteReadError):
            if not left:
                raise


def _info(etag: str, size: int) -> ObjectInfo:
    return ObjectInfo(size, etag, digest(etag, str(size)))


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _explain(error: ClientError) -> Fault:
    code, status = error.response["Error"]["Code"], _status(error)
    reason = f"HTTP {status}: {first_line(error)}"
    if code in _BAD_CREDENTIALS:
        return Fault(f"no AWS credentials that can be used ({reason})", _LOGIN)
    if status == 404:
        return ABSENT
    if status in (401, 403):
        return refused(reason, _PERMISSIONS)
    if status == 429 or (status >= 500 and status != 501):
        return out_of_reach(reason)
    return failed(reason)

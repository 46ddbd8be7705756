"""Work for processes that are started anew: a module that imports little, for each of them imports it."""

import os
import signal
import threading
from pathlib import Path

from attrloop.components.errors import AttrloopError

STOPPED = 128 + signal.SIGTERM


def leave_mark(folder: str) -> None:
    """Writes the number of processes to a file named by rank."""
    Path(folder, os.environ["RANK"]).write_text(os.environ["WORLD_SIZE"])


def fail_in_one(folder: str) -> None:
    """Fails in the second process."""
    if os.environ["RANK"] == "1":
        raise AttrloopError("sft: out of device memory. Lower batch_size.")


def stop(folder: str) -> None:
    """Ends as a training does that was asked to stop."""
    raise SystemExit(STOPPED)


def save_when_asked(folder: str) -> None:
    """Waits for SIGTERM, then saves and ends."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    Path(folder, f"ready-{os.environ['RANK']}").touch()
    asked.wait(60)
    Path(folder, f"saved-{os.environ['RANK']}").touch()
    raise SystemExit(STOPPED)

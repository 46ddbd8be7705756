"""Allows one run at a time in a workspace, also after a run was killed."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrloop.components.errors import fail


@contextmanager
def exclusive(workspace: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Locks a workspace for one run.

    Every process that the run starts inherits the lock as its standard input. A step that outlives its killed run
    therefore keeps the lock until it ends, and a later run waits for it: two processes never write the same artifact.

    Args:
        workspace: the run's folder; the lock file is beside it.
        tell: called with a message if it has to wait.

    Raises:
        InputError: another run uses the workspace.
    """
    workspace.parent.mkdir(parents=True, exist_ok=True)
    with (workspace.parent / f".{workspace.name}.lock").open("a+") as file:
        _acquire(file.fileno(), workspace, tell)
        os.truncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
        stdin = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)


def _acquire(descriptor: int, workspace: Path, tell: Callable[[str], None]) -> None:
    told = False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode()
            if owner and _alive(int(owner)):
                raise fail(
                    str(workspace),
                    f"another run (process {owner}) is at work here",
                    "Wait until it has ended, or choose another --runs folder",
                ) from None
        if not told:
            tell("A step of an earlier, killed run is still at work; waiting until it ends")
            told = True
        time.sleep(0.3)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

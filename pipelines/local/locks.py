"""One run at a time in a workspace, also after a run was killed."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrloop.components.errors import fail


@contextmanager
def exclusive(workspace: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Holds a workspace for one run.

    The lock is standard input of everything started meanwhile, so that a step that outlives its killed run keeps the lock until it ends: two
    processes never write one stage. A later run then waits for that step.

    Args:
        workspace: the run's folder; the lock lies beside it.
        tell: is told when there is something to wait for.

    Raises:
        InputError: another run that is alive works there.
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
            tell("A step of an earlier run that was killed is still at work; waiting until it ends")
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

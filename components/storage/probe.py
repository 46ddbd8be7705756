"""Whether a store lets a run do all that it has to do there, found out by doing it with a small file."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryDirectory

from attrloop.components.errors import AttrloopError, InputError, Problem
from attrloop.components.storage.files import TEMPORARY
from attrloop.components.storage.local import LocalStore, existing
from attrloop.components.storage.store import Store

_REMEDY = "Grant the right to {} files below it and take any retention policy or lock off, or choose another place"


def probe(store: Store, creates_only: bool = False) -> list[Problem]:
    """Creates, replaces, reads and removes a small file; leaves nothing behind where that is allowed.

    Args:
        store: the place.
        creates_only: files that are there are neither replaced nor removed in it, so that need not be allowed.

    Returns:
        The problem, if any, that would keep a run from its work. Some buckets, file systems and mounts can be written
        but allow no replacing or removing, or let two processes create the same file.
    """
    if not isinstance(store, LocalStore):
        return _tried(store, store.root, creates_only)
    try:  # in the nearest folder that exists: the store's own is made when the run begins
        with TemporaryDirectory(prefix=TEMPORARY, dir=existing(store.home)) as folder:
            return _tried(LocalStore(folder), store.root, creates_only)
    except OSError as error:
        return [Problem(store.root, f"files cannot be removed ({error.strerror})", _remedy(creates_only))]


def _remedy(creates_only: bool) -> str:
    return _REMEDY.format("create" if creates_only else "create, replace and remove")


def _tried(store: Store, root: str, creates_only: bool) -> list[Problem]:
    folder = f"{TEMPORARY}probe-{uuid.uuid4().hex}"
    fault = _fault(store, folder, creates_only)
    with suppress(AttrloopError, OSError):
        store.remove(folder)
    return [Problem(root, fault, _remedy(creates_only))] if fault else []


def _fault(store: Store, folder: str, creates_only: bool) -> str:
    file = f"{folder}/file"

    def create_again() -> str:
        return "" if not store.create(file, b"two") else "a second process could create it too"

    def replace() -> str:
        store.write(file, b"three")
        return "" if store.read(file) == b"three" else "another content is read afterwards"

    def remove() -> str:
        store.remove(folder)
        return "" if not store.exists(file) else "it is still there afterwards"

    steps: dict[str, Callable[[], object]] = {
        "created": lambda: store.create(file, b"one") and "",
        "created by one process alone": create_again,
        **({} if creates_only else {"replaced": replace, "removed": remove}),
    }
    for what, step in steps.items():
        try:
            fault = step()
        except (AttrloopError, OSError) as error:
            fault = error.problems[0].what if isinstance(error, InputError) else str(error)
        if fault:
            return f"files cannot be {what} here ({str(fault).rstrip('.')})"
    return ""

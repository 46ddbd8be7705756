"""Which code made a run, and who started it."""

import getpass
import os
import subprocess
from functools import cache
from pathlib import Path

from attrloop.components.digests import digest


def actor() -> str:
    """The user's name, or `unknown` where the system has none, e.g. for a numeric user in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@cache
def code_digest() -> str:
    """Identifies the code of the components.

    Returns:
        The commit of a git checkout without changes; `<commit>+<digest>` of one with changes; outside of a checkout a
        digest of the source.
    """
    folder = Path(__file__).parents[1]
    source = digest(
        [[str(path.relative_to(folder)), path.read_text(encoding="utf-8")] for path in sorted(folder.rglob("*.py"))]
    )
    commit = git_sha()
    if not commit:
        return source
    return f"{commit}+{source}" if _git("status", "--porcelain", "--", ".") else commit


@cache
def git_sha() -> str:
    """The commit of the checkout; otherwise the value of ATTRLOOP_REVISION, which images set; otherwise ""."""
    # A virtual environment can lie inside another project's repository, whose commit is not ours.
    tracked = _git("ls-files", "--error-unmatch", "tracking/code.py")
    return _git("rev-parse", "HEAD") if tracked else os.environ.get("ATTRLOOP_REVISION", "")


def _git(*command: str) -> str:
    try:
        done = subprocess.run(
            ["git", *command], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

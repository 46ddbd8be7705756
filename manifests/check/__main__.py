"""Runs the checks: `python -m manifests.check [--deployable] [OVERLAY ...]`."""

import argparse
import sys
from pathlib import Path

from attrloop.components.errors import AttrloopError, Problem
from manifests.check.build import OVERLAYS, ROOT, build, schema_problems
from manifests.check.invariants import INVARIANTS
from manifests.check.settings import placeholders, wrong_settings


def problems_of(overlay: Path, deployable: bool) -> list[Problem]:
    """All problems of an overlay; prints how much was checked."""
    documents = build(overlay)
    found = schema_problems(documents)
    if not found:  # the invariants rely on the documents' shape
        found = [problem for invariant in INVARIANTS for problem in invariant(documents)]
    found += wrong_settings(overlay)
    unset = placeholders(documents, overlay)
    state = "nothing left to replace" if not unset else f"{len(unset)} placeholders left: not deployable yet"
    print(f"{overlay.name}: {len(documents)} documents, {len(INVARIANTS)} invariants, {len(found)} problems, {state}")
    return found + (unset if deployable else [])


def main(arguments: list[str] | None = None) -> int:
    """Checks the overlays, prints every problem, and returns 1 when there is one, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m manifests.check", description="Builds and checks the overlays, offline."
    )
    parser.add_argument(
        "overlays",
        nargs="*",
        type=Path,
        default=[ROOT / "overlays" / name for name in OVERLAYS],
        help="folders; default: local and gke",
    )
    parser.add_argument(
        "--deployable", action="store_true", help="placeholders are errors too; check this before you apply"
    )
    given = parser.parse_args(arguments)
    try:
        found = [(overlay, problem) for overlay in given.overlays for problem in problems_of(overlay, given.deployable)]
    except AttrloopError as error:
        print(error, file=sys.stderr)
        return 1
    for overlay, problem in found:
        print(f"  - {overlay.name}: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

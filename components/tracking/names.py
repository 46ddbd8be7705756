"""Names in MLflow: the aliases of the registered model, its artifact, and names that MLflow accepts."""

import re
import unicodedata
from collections.abc import Iterable

from attrloop.components.digests import digest

CANDIDATE, CHAMPION = "candidate", "champion"  # aliases of the registered model
ADAPTER = "adapter"  # the logged model, and the folder of the adapter among its artifacts
LEARNT_DIGEST = "learnt_digest"  # tag of a version: of the record of what its adapter has learnt from


def slug(text: str) -> str:
    """Turns text into a name for a metric, tag or file.

    Returns:
        Lower-case ASCII letters, digits, '-', '_' and '.'; never empty.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_.]+", "-", plain).strip("-.")[:100] or digest(text)[:8]


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Gives each name a slug of its own; names that would get the same slug also get a digest."""
    plain = {name: slug(name) for name in names}
    taken = list(plain.values())
    return {name: short if taken.count(short) == 1 else f"{short}-{digest(name)[:6]}" for name, short in plain.items()}

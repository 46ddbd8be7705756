"""Short digests of content."""

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(*parts: bytes | str | Any) -> str:
    """SHA-256 (first 16 hex digits) of bytes, text, or anything that JSON can hold."""
    total = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, bytes | str) else json.dumps(part, sort_keys=True, default=str)
        data = text if isinstance(text, bytes) else text.encode()
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 (first 16 hex digits) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]

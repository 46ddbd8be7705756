"""Secrets come from environment variables alone, and are never shown."""

import os
import re

from attrloop.components.errors import fail

# What of a URI lets one in: user and password (which may hold '/', unlike a host with its port), or a password among a database's options.
CREDENTIALS = re.compile(r"(?<=://)(?!/)(?:[^/]*|[^/:]*:(?!\d+/)\S*)@|(?<=password=)[^&\s]+")


def reveals(address: str) -> bool:
    """Whether an address holds a secret: a password, or any user of a web server, who may be one; a database's user alone is none."""
    found = CREDENTIALS.search(address)
    return found is not None and (address.startswith("http") or ":" in found[0] or not found[0].endswith("@"))


def secret(name: str, encoded: bool = False) -> str:
    """The secret that an environment variable holds, without white space around it: files that secrets are made from end with a line break.

    Args:
        encoded: whether it is sent in base64, so that any letter and blank may be of it.

    Returns:
        "" when there is none.

    Raises:
        InputError: it holds what no HTTP header can; clients would show it in their errors.
    """
    value = os.environ.get(name, "").strip("\r\n" if encoded else None)
    if not re.fullmatch(r"[^\x00-\x1f\x7f]*" if encoded else "[ -~]*", value):
        what = (
            "holds a line break"
            if encoded
            else "holds a line break or a character that is not ASCII, so it cannot be sent"
        )
        raise fail(
            f"the environment variable {name}",
            what,
            "Set it to the secret alone, in one line without typographic quotes",
        )
    return value

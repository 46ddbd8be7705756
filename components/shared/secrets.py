"""Secrets come from environment variables alone, and are never shown."""

import os
import re

from attrloop.components.shared.errors import fail

# What of a URI lets one in: user and password (which may hold '/', unlike a host with its port), or a password among a database's options.
CREDENTIALS = re.compile(r"(?<=://)(?!/)(?:[^/]*|[^/:]*:(?!\d+/)\S*)@|(?<=password=)[^&\s]+")


def secret(name: str) -> str:
    """The secret that an environment variable holds, without white space around it: files that secrets are made from end with a line break.

    Returns:
        "" when there is none.

    Raises:
        InputError: it holds what no HTTP header can; clients would show it in their errors.
    """
    value = os.environ.get(name, "").strip()
    if not re.fullmatch("[ -~]*", value):
        what = "holds a line break or a character that is not ASCII, so it cannot be sent"
        raise fail(f"the environment variable {name}", what, "Set it to the secret alone, in one line without typographic quotes")
    return value

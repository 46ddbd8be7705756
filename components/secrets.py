"""Secrets come from environment variables only, and are never shown."""

import os
import re

from attrloop.components.errors import fail

# The part of a URI that grants access: user and password (which may hold '/', unlike a host with its port), or a
# password among the options of a database.
CREDENTIALS = re.compile(r"(?<=://)(?!/)(?:[^/]*|[^/:]*:(?!\d+/)\S*)@|(?<=password=)[^&\s]+")


def reveals(address: str) -> bool:
    """Whether an address holds a secret.

    A password is one, and so may be the user of a web server. The user of a database alone is not.
    """
    found = CREDENTIALS.search(address)
    return found is not None and (address.startswith("http") or ":" in found[0] or not found[0].endswith("@"))


def public(reference: str) -> str:
    """A path or URL without what may grant access: user, password, query (signatures, tokens) and fragment."""
    if "://" not in reference:
        return reference
    plain, *hidden = re.split(r"[?#]", CREDENTIALS.sub("", reference), maxsplit=1)
    return f"{plain}?..." if hidden else plain


def secret(name: str, encoded: bool = False) -> str:
    """The secret in an environment variable, without white space around it: secret files end with a line break.

    Args:
        name: the environment variable.
        encoded: whether it is sent in base64, so that any letter and any blank is allowed.

    Returns:
        The secret, or "" when there is none.

    Raises:
        InputError: it holds a character that no HTTP header can hold. HTTP clients would show it in their errors.
    """
    value = os.environ.get(name, "").strip("\r\n" if encoded else None)
    if not re.fullmatch(r"[^\x00-\x1f\x7f]*" if encoded else "[ -~]*", value):
        what = "holds a line break"
        if not encoded:
            what += " or a character that is not ASCII, so it cannot be sent"
        remedy = "Set it to the secret alone, in one line without typographic quotes"
        raise fail(f"the environment variable {name}", what, remedy)
    return value

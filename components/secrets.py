"""Secrets come from environment variables only, and are never shown."""

import os
import re

from attrloop.components.errors import fail

# The part of a URI that grants access: user and password (which may hold '/', unlike a host with its port), or a
# password among the options of a database.
CREDENTIALS = re.compile(r"(?<=://)(?!/)(?:[^/]*|[^/:]*:(?!\d+/)\S*)@|(?<=password=)[^&\s]+")
_WEB = re.compile(r"^\s*[/\\]{2}|\w:[/\\]")  # what is meant as a URL, perhaps without its scheme or one of the slashes
_QUERY = re.compile(r"[?#]|(?:[&;]|%3f)(?=[\w.~-]+=)", re.IGNORECASE)
_ARGUMENT = re.compile(r"(?:[?#&;]|%3f)(?=[\w.~-]+=)", re.IGNORECASE)  # a local file may have a bare `?` in its name
# User and password in a URL of any spelling. What looks like a port is a password, unless a host is before it.
_LOGIN = re.compile(
    r"(\w:[/\\]{1,2}|^\s*[/\\]{2})(?![/\\])"
    r"(?:[^/\\]*@|[^/\\:]*:(?!\d+[/\\])\S*@|(?!localhost:)[^/\\:.]*:\S*@)|(?:^|(?<=[/\\]))[^/\\:]+:[^/\\]*@|(?<=password=)[^&\s]+"
)
_PATH = 4096  # characters
_TELLING = 12  # first characters of a key; fewer are the same in all keys of a provider


def reveals(address: str) -> bool:
    """Whether an address holds a secret.

    A password is one, and so may be the user of a web server. The user of a database alone is not.
    """
    found = CREDENTIALS.search(address)
    return found is not None and (address.startswith("http") or ":" in found[0] or not found[0].endswith("@"))


def public(reference: str) -> str:
    """A path or URL without what may grant access: user, password, query (signatures, tokens) and fragment.

    A mistyped URL, such as one without its scheme, is treated as one. Of a `data:` URI the content is left out, and of
    anything else what is longer than a path can be.
    """
    reference = reference[:_PATH]
    if found := re.match(r"\s*data:[^,]{,80}", reference, re.IGNORECASE):
        return f"{found[0]},..."
    plain, *hidden = (_QUERY if _WEB.search(reference) else _ARGUMENT).split(_LOGIN.sub(r"\1", reference), maxsplit=1)
    return f"{plain}?..." if hidden else plain


def masked(text: str, key: str) -> str:
    """A text from outside with a key in it replaced by `***`, and a long enough beginning of the key likewise.

    It is found in any case, and with letters that JSON or a URL escape, once or twice. Keys under 8 characters are
    placeholders and stay.
    """
    if len(key) < 8:
        return text
    letters = [rf"(?:\\{{0,4}}{re.escape(one)}|(?:\\{{1,4}}(?:u00|x)|%){ord(one):02x})" for one in key]
    return re.sub(rf"{''.join(letters)}|{''.join(letters[:_TELLING])}[\w-]*", "***", text, flags=re.IGNORECASE)


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

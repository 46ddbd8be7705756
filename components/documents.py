"""Reads text and JSON that others wrote: what is read is what was written, and what cannot be read is named.

JSON is read more strictly than Python's json reads it: no key twice in an object, no text that UTF-8 cannot hold, no
NaN or infinity, no number or nesting without end. All of these reach a crash or a wrong value later, after work has
been paid for.
"""

import json
import math
import re
from contextlib import suppress
from typing import Any

from attrloop.components.errors import InputError, fail

DEPTH = 100  # levels; a listing has two, an export of Label Studio eight
LONGEST = 10_000_000  # bytes of a row of a file
_EXCERPT = 80  # characters
_DIGITS = 400  # of a number; no float has more than 309 before its point
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "Zstandard", b"PK\x03\x04": "ZIP", b"PAR1": "Parquet"}
_SUSPECT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")  # escapes of surrogates and of the NUL character
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|[{}]')


class Malformed(ValueError):
    """What is wrong with a text.

    Attributes:
        what: the fault.
        remedy: what to do.
        line: of the fault, from 1; None where it is not known.
        value: what the text says, as far as it can be read, to name the row.
    """

    def __init__(self, what: str, remedy: str, line: int | None = None, value: Any = None) -> None:
        self.what, self.remedy, self.line, self.value = what, remedy, line, value
        super().__init__(what)

    def problem(self, name: str) -> InputError:
        """The error that names the file, and the line where it is known."""
        return fail(f"{name}:{self.line}" if self.line else name, self.what, self.remedy)


def text_of(data: bytes, part: str = "") -> str:
    """The text of UTF-8 bytes, without a byte order mark.

    Args:
        data: the bytes.
        part: in an error, what they are of the file, e.g. ` of the line`.

    Raises:
        Malformed: another encoding, or a compressed file.
    """
    for mark, kind in _PACKED.items():
        if data.startswith(mark):
            raise Malformed(f"not text but a {kind} file", "Unpack it, or correct the file's suffix")
    for mark, kind in _BOMS.items():
        if data.startswith(mark):
            raise Malformed(f"not UTF-8 text but {kind}", "Save the file as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 text (byte {error.start}{part})", "Save the file as UTF-8") from error


def unstorable(text: str) -> str:
    """Why a text cannot be written to a file or a database: "" if it can."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds half a character (\\u{ord(text[error.start]):04x}): the text was cut inside an emoji or the like"
    return ""


def suspicious(text: str) -> bool:
    """Whether what a JSON text says may have a fault that `fault_of` finds; that looks at every part and takes long."""
    return _SUSPECT.search(text) is not None or text.count("[") + text.count("{") > DEPTH


def fault_of(value: Any, levels: int = DEPTH) -> str:
    """What keeps a decoded value from being stored: see `unstorable`, or more than 100 levels; "" if nothing does."""
    if isinstance(value, str):
        return f"a text {why}" if (why := unstorable(value)) else ""
    if not levels:
        return _too_deep().what
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((why for part in parts if (why := fault_of(part, levels - 1))), "")


def parse_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
        Malformed: not JSON, a key twice in an object, text that cannot be stored (see `unstorable`), NaN, a number
            that no float holds, or more than 100 levels.
    """
    try:
        value = _DECODER.decode(text)
    except _TwiceError as error:
        key, first, second = _twice(text)
        what = f"the key {key[:_EXCERPT]!r} is given twice" + (f", on lines {first} and {second}" if second > 1 else "")
        raise Malformed(what, "Keep one of them", second, _leniently(text)) from error
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        what = f"not valid JSON ({error.msg}, column {error.colno})"
        raise Malformed(what, "Correct the syntax", error.lineno) from error
    except _NumberError as error:
        raise Malformed(str(error), "Write a number that can be stored", value=_leniently(text)) from error
    if (suspicious(text) and (why := fault_of(value))) or (not text.isascii() and (why := fault_of(text))):
        remedy = _too_deep().remedy if why == _too_deep().what else "Write the text whole, in UTF-8"
        raise Malformed(why, remedy, value=value)
    return value


def read_json(data: bytes | str, name: str) -> Any:
    """What a JSON file says.

    Args:
        data: its content.
        name: of the file in error messages.

    Raises:
        InputError: as `text_of` and `parse_json`, with the line.
    """
    try:
        return parse_json(data if isinstance(data, str) else text_of(data))
    except Malformed as error:
        raise error.problem(name) from error


class _TwiceError(Exception):
    pass


class _NumberError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise _NumberError(f"a number of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    if len(text) > _DIGITS:
        raise _NumberError(f"a number of {len(text):,} digits")
    if not math.isfinite(number := float(text)):
        raise _NumberError(f"{text} is larger than any number that can be stored")
    return number


def _no_number(text: str) -> float:
    raise _NumberError(f"{text} is not a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
_LENIENT = json.JSONDecoder(parse_int=float)


def _leniently(text: str) -> Any:
    """What a text says that Python's json accepts: of a key that is given twice, the last."""
    with suppress(ValueError, RecursionError):
        return _LENIENT.decode(text)
    return None


def _too_deep() -> Malformed:
    return Malformed(f"nested deeper than {DEPTH} levels", "Write it flatter")


def _twice(text: str) -> tuple[str, int, int]:
    """The first key that an object has twice, in JSON that has one, and its two lines."""
    objects: list[dict[str, int]] = []
    for token in _TOKEN.finditer(text):
        if token[0] == "{":
            objects.append({})
        elif token[0] == "}":
            objects.pop()
        elif token[1]:
            key, line = json.loads(token[0].removesuffix(token[1])), text.count("\n", 0, token.start()) + 1
            if key in objects[-1]:
                return key, objects[-1][key], line
            objects[-1][key] = line
    raise AssertionError("no key is given twice")

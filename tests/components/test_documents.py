"""JSON that others wrote: read as it was written, or named."""

import pytest

from attrloop.components.documents import read_json
from attrloop.components.errors import InputError


def said(data: bytes | str) -> str:
    with pytest.raises(InputError) as caught:
        read_json(data, "in.json")
    (problem,) = caught.value.problems
    str(problem).encode()  # can be printed
    return str(problem)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_is_read_as_it_was_written(encoding: str) -> None:
    text = '{"a": [1, 2.5, -0.0, 1e3, true, null], "Größe": "\\ud83d\\ude00 \\\\u0000 \\u00e9",\r\n "b": {"a": 1}}\r\n'
    assert read_json(text.encode(encoding), "in.json") == {
        "a": [1, 2.5, -0.0, 1000.0, True, None],
        "Größe": "\U0001f600 \\u0000 é",
        "b": {"a": 1},
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1,\n "b": {"a": 2},\n "a": 3}', "in.json:3: the key 'a' is given twice, on lines 1 and 3"),
        ('[{"x": "{\\"a\\":"},\n{"a": {"b": 1},\n"\\u0061": 2}]', "in.json:3: the key 'a' is given twice, on lines 2"),
        ('{"a": 1, "a": 1}', "in.json:1: the key 'a' is given twice. Keep one"),
        ('{"title": "cut in the middle \\ud83d"}', "in.json: a text holds half a character (\\ud83d)"),
        ('{"\\ude00": 1}', "in.json: a text holds half a character (\\ude00)"),
        ('["a\\u0000b"]', "in.json: a text holds a NUL character"),
        ('["a\0b"]', "in.json:1: not valid JSON (Invalid control character"),
        ("[" * 5_000, "in.json: nested deeper than 100 levels"),
        ("[" * 200 + "]" * 200, "in.json: nested deeper than 100 levels. Write it flatter."),
        ('{"a": ' * 5_000, "in.json: nested deeper than 100 levels"),
        ("9" * 5_000, "in.json: a number of 5,000 digits"),
        ("-0." + "9" * 5_000, "in.json: a number of 5,003 digits"),
        ("1e999", "in.json: 1e999 is larger than any number"),
        ("[NaN]", "in.json: NaN is not a number"),
        ("[-Infinity]", "in.json: -Infinity is not a number"),
        ('{"a":\n1,}', "in.json:2: not valid JSON ("),
        ("", "in.json:1: not valid JSON ("),
    ],
)
def test_what_is_lost_or_breaks_later_is_named(text: str, fault: str) -> None:
    assert said(text.encode()).startswith(fault)
    assert said(text).startswith(fault)


def test_half_a_character_in_the_text_itself_is_named() -> None:
    assert said('{"a": "\ud83d"}').startswith("in.json: a text holds half a character (\\ud83d)")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ('{"a": "é"}'.encode("utf-16"), "in.json: not UTF-8 text but UTF-16. Save the file as UTF-8"),
        ('{"a":\n"é"}'.encode("latin-1"), "in.json: not UTF-8 text (byte 7)"),
        (b'"\xed\xa0\xbd"', "in.json: not UTF-8 text (byte 1)"),
        (b"\x1f\x8b\x08...", "in.json: not text but a gzip file"),
        (b"PAR1...", "in.json: not text but a Parquet file"),
    ],
)
def test_another_encoding_is_named(data: bytes, fault: str) -> None:
    assert said(data).startswith(fault)

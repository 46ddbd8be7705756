"""YAML that people wrote: text stays text, and what would be lost or grow without end is named."""

from typing import Any

import pytest

from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import InputError
from attrloop.components.validation import validate_yaml
from attrloop.components.yaml_documents import read_yaml, typed

SCALARS = """
verticals:
  tv:
    attributes:
      aspect: {values: [4:3, 16:9, 21:9]}
      scale: {values: [1:18, 1:24, 1:64]}
      size: {values: [00, 2, 4, 010, 012]}
      capacity: {values: [1.10, 2.50, 1_000]}
      code: {values: [0x1F, 0b11, +5, 1e3, 1.0e+3]}
      word: {values: [yes, no, on, off, Null, ~, true, False, y, "", .inf, .5, 2024-01-01, 12:30:45, =, "16:9"]}
"""


def schema(text: str) -> Schema:
    return validate_yaml(Schema, text, "schema.yaml")


def said(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        schema(text)
    return [str(problem) for problem in caught.value.problems]


def test_closed_lists_are_text_as_written() -> None:
    attributes = schema(SCALARS.replace(' "",', "")).verticals["tv"].attributes
    assert {name: attribute.names for name, attribute in attributes.items()} == {
        "aspect": ["4:3", "16:9", "21:9"],
        "scale": ["1:18", "1:24", "1:64"],
        "size": ["00", "2", "4", "010", "012"],
        "capacity": ["1.10", "2.50", "1_000"],
        "code": ["0x1F", "0b11", "+5", "1e3", "1.0e+3"],
        "word": [
            *("yes", "no", "on", "off", "Null", "~", "true", "False", "y", ".inf", ".5"),
            *("2024-01-01", "12:30:45", "=", "16:9"),
        ],
    }
    assert all(type(name) is str for attribute in attributes.values() for name in attribute.names)


def test_names_descriptions_and_synonyms_are_text_as_written_too() -> None:
    text = "verticals: {1:18: {description: 010, attributes: {no: {description: 1.10, many: yes, values: [{name: 1:24, "
    text += "description: 2024-01-01, synonyms: [0x1F, off]}, b]}}}}"
    vertical = schema(text).verticals["1:18"]
    attribute = vertical.attributes["no"]
    assert (vertical.description, attribute.description, attribute.many) == ("010", "1.10", True)
    value = attribute.values[0]
    assert (value.name, value.description, value.synonyms) == ("1:24", "2024-01-01", ("0x1F", "off"))


def test_a_value_without_text_is_named_with_its_line() -> None:
    (problem,) = said(
        "verticals:\n  a:\n    attributes:\n      b:\n        values:\n          - x\n          - y\n          -\n"
    )
    assert problem.startswith("schema.yaml:8 (verticals.a.attributes.b.values.2.name)")


@pytest.mark.parametrize("value", ["''", "{name: }", "{nam: x}"])
def test_a_bad_value_of_two_is_no_second_fault_of_the_list(value: str) -> None:
    problems = said(f"verticals: {{a: {{attributes: {{b: {{values: [{value}, x]}}}}}}}}")
    assert problems and not any("entries" in problem for problem in problems)


def test_a_list_of_one_value_is_too_short() -> None:
    (problem,) = said("verticals: {a: {attributes: {b: {values: [x]}}}}")
    assert problem == (
        "schema.yaml:1 (verticals.a.attributes.b.values): has 1 of at least 2 entries. List more entries."
    )


def test_keys_that_are_there_twice_are_refused_with_both_lines() -> None:
    problems = said("""verticals:
  mug:
    attributes:
      colour: {values: [red, blue]}
      lid: {values: [lid, none]}
      colour: {values: [white, black]}
  mug:
    attributes:
      handle: {values: [one, two]}
""")
    assert problems == [
        "schema.yaml:7 (verticals.mug): the key 'mug' is given twice, on lines 2 and 7. Keep one of them.",
        "schema.yaml:6 (verticals.mug.attributes.colour): the key 'colour' is given twice, on lines 4 and 6. "
        "Keep one of them.",
    ]
    (problem,) = said('{"verticals": {"a": 1,\n"\\u0061": 2}}')
    assert problem.startswith("schema.yaml:2 (verticals.a): the key 'a' is given twice, on lines 1 and 2.")


def test_anchors_and_merge_keys_work() -> None:
    text = """verticals:
  mug: &mug
    attributes: &common {colour: &colours {values: [red, blue]}, lid: {values: [lid, none]}}
  cup: *mug
  jug: {attributes: {<<: *common, colour: {values: [white, black]}, rim: *colours}}
"""
    found = schema(text).verticals
    assert found["cup"] == found["mug"] and set(found["jug"].attributes) == {"colour", "lid", "rim"}
    assert found["jug"].attributes["colour"].names == ["white", "black"]


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
TOWER = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}]\n" for k in range(1, 2_000))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (LAUGHS, "schema.yaml:6: aliases make it larger than 1,000,000 entries"),
        (MERGES, "schema.yaml:7: aliases make it larger than 1,000,000 entries"),
        (TOWER, "schema.yaml:100: aliases nest it deeper than 100 levels"),
        ("verticals: &a [*a]", "schema.yaml:1: an alias stands inside of what it stands for"),
        ("[" * 5_000, "schema.yaml: nested deeper than 100 levels"),
        ("[" * 200 + "]" * 200, "schema.yaml:1: nested deeper than 100 levels"),
        (
            "verticals:\n  - !!python/object:os.system x",
            "schema.yaml:2: not valid YAML (a text that begins with !!python/object:os.system, which",
        ),
        (
            "verticals:\n  - !!int 010",
            "schema.yaml:2: not valid YAML (a text that begins with !!int, which names a type",
        ),
        ('verticals:\n  "cut \\ud83d": 1', "schema.yaml:2: a text holds half a character (\\ud83d)"),
        ('verticals:\n  "a\\0b": 1', "schema.yaml:2: a text holds a NUL character"),
        ("verticals:\n  a\0b: 1", "schema.yaml:2: not valid YAML (the character U+0000 is not allowed)"),
        ("a: 1\n---\nb: 2\n", "schema.yaml:2: not valid YAML (but found another document)"),
        ("? [a, b]\n: c\n", "schema.yaml:1: not valid YAML (found unhashable key)"),
        (
            "a:\n  - !red\n",
            "schema.yaml:2: not valid YAML (a text that begins with !red, which names a type). Put the text",
        ),
        ("a: [!red, b]\n", "schema.yaml:1: not valid YAML (a text that begins with !red, which names a type). Put the"),
        ("a: [<<, b]\n", "schema.yaml:1: not valid YAML (<< stands for the keys of another mapping). Put it in quotes"),
        ("a: {a, , b}\n", "schema.yaml:1: not valid YAML (a comma with nothing before it). Remove it"),
        ("a: [, b]\n", "schema.yaml:1: not valid YAML (a comma with nothing before it). Remove it"),
        ("a: [b, #fff, c]\n", "schema.yaml:2: not valid YAML (a bracket that is not closed). Close it; what follows #"),
        ("a: [b\nc: d\n", "schema.yaml:2: not valid YAML ("),
        ("a: [*b, c]\n", "schema.yaml:1: not valid YAML (*b stands for what &b names, and nothing is named so). Put"),
        ("a: [@b]\n", "schema.yaml:1: not valid YAML (a text that begins with @). Put the text in quotes"),
        ("a:\n\tb: c\n", "schema.yaml:2: not valid YAML (a tab where spaces are needed). Indent it with spaces"),
        ('a:\n  - "red" apple\n', "schema.yaml:2: not valid YAML (more text after the end of a text in quotes). Put"),
        (
            "a:\n\xa0\xa0b: c\n",
            "schema.yaml:2: a space that is no plain one, such as U+00A0, begins the text. Replace it",
        ),
        (
            "a:\n  -\xa0red\n",
            "schema.yaml:2: a space that is no plain one, such as U+00A0, begins the text. Replace it",
        ),
        (
            "a:\xa0{b: [c]}\n",
            "schema.yaml:1: not valid YAML (a space that is no plain one, such as U+00A0). Replace it",
        ),
        ("a: b: c\n", "schema.yaml:1: not valid YAML (mapping values are not allowed here)"),
    ],
)
def test_what_breaks_or_grows_without_end_is_named(text: str, fault: str) -> None:
    (problem,) = said(text)
    assert problem.startswith(fault)


def test_a_value_that_yaml_takes_for_a_comment_is_told() -> None:
    (problem,) = said("verticals:\n  a:\n    attributes:\n      b:\n        values:\n          - #fff\n          - x\n")
    assert problem.startswith("schema.yaml:6 (verticals.a.attributes.b.values.0.name): empty. Write a text; one that")
    assert "'#fff'" in problem


def test_a_space_that_is_none_to_yaml_is_told_and_one_inside_a_text_is_text() -> None:
    (problem, *_) = said("verticals:\n  a:\xa0x\n")
    assert "Replace a space that is no plain one, such as U+00A0, by a plain space" in problem
    assert read_yaml("a: 10\xa0kg\nb: ' x\xa0'\n", "x")[0] == {"a": "10\xa0kg", "b": " x\xa0"}


def test_an_emoji_in_two_halves_as_json_writes_it_is_whole() -> None:
    assert read_yaml('"\\ud83d\\ude00"', "x")[0] == "\U0001f600"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-7", -7),
        ("+5", 5),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("5e-5", 5e-5),
        (".5", 0.5),
        ("1.10", 1.1),
        ("true", True),
        ("False", False),
        ("NULL", None),
        ("~", None),
        ("", None),
        ("fALSE", "fALSE"),
        ("no", "no"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0b11", "0b11"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("2024-01-01", "2024-01-01"),
        ('"5"', "5"),
        ("'true'", "true"),
        ("9" * 5_000, "9" * 5_000),
        ("[1, '1', {a: 1e3, 2: x}]", [1, "1", {"a": 1000.0, "2": "x"}]),
    ],
)
def test_plain_scalars_are_typed_by_the_core_schema(text: str, value: Any) -> None:
    found = typed(read_yaml(f"x: {text}", "x")[0]["x"])
    assert found == value and type(found) is type(value)

"""Two spellings are the same value only where the closed list does not need their difference."""

import itertools
import re
import unicodedata

import pytest
from pydantic import ValidationError

from attrloop.components.catalogue.schema import Attribute, Schema, Value, Vertical, abstains


def listed(*values: str, many: bool = False) -> Attribute:
    return Attribute(values=tuple(Value(name=value) for value in values), many=many)


@pytest.mark.parametrize(
    ("values", "text", "right"),
    [
        (["5 oz", "8 oz"], ".5 oz", None),
        (["0.5 oz", "5 oz"], ".5 oz", "0.5 oz"),
        (["2.00", "1.75"], "-2.00", None),
        (["-2.00", "+2.00"], "-2.00", "-2.00"),
        (["5 °C", "0 °C"], "-5 °C", None),
        (["-5 °C", "5 °C"], "−5 °C", "-5 °C"),
        (["-", "red"], "", None),
        (["-", "red"], "-", "-"),
        (["102", "3"], "10²", None),
        (["m²", "m³"], "m2", "m²"),
        (["A-", "A", "A+"], "A", "A"),
        (["6'", '6"'], '6"', '6"'),
        (["mW", "MW"], "mW", "mW"),
        (["3/4 sleeve", "long"], "¾ sleeve", "3/4 sleeve"),
        (["X-Large", "S"], "x–large", "X-Large"),
        (["Men's", "S"], "Men’s", "Men's"),
        (["solid", "striped"], " Striped. ", "striped"),
        (["red", "blue"], "red\u200b", "red"),
        # what is written in another way
        (["polka dot", "solid"], "Polka-Dot ", "polka dot"),
        (["polka dot", "solid"], "polka_dot", "polka dot"),
        (["polka dot", "solid"], "polka   dot", "polka dot"),
        (["polka dot", "solid"], "polka\xa0dot", "polka dot"),
        (["crème", "noir"], unicodedata.normalize("NFD", "crème"), "crème"),
        ([unicodedata.normalize("NFD", "crème"), "noir"], "Crème", unicodedata.normalize("NFD", "crème")),
        (["striped", "solid"], "ｓｔｒｉｐｅｄ", "striped"),
        (["striped", "solid"], "'striped'", "striped"),
        (["striped", "solid"], "“striped”", "striped"),
        (["striped", "solid"], "**striped**", "striped"),
        (["striped", "solid"], "`striped`.", "striped"),
        (["striped", "solid"], "- striped", "striped"),
        (["striped", "solid"], "striped!", "striped"),
        (["striped", "solid"], "-striped", "striped"),
        (["striped", "solid"], "striped_", "striped"),
        (["striped", "solid"], "ｓｔｒｉｐｅｄ。", "striped"),
        (["striped", "solid"], '"striped', "striped"),
        (["V-neck", "crew"], "v neck", "V-neck"),
        (["V-neck", "crew"], "V‑neck", "V-neck"),
        (["US 10", "US 11"], "us-10", "US 10"),
        (["10-12", "12-14"], "10–12", "10-12"),
        (["10-12", "12-14"], "10 - 12", "10-12"),
        (["6'", '6"'], "6′", "6'"),
        (["6'", '6"'], "6″", '6"'),
        (["6'", '6"'], "6''", '6"'),
        (["1 1/2", "11/2"], "1½", "1 1/2"),
        (["2x4", "4x4"], "2×4", "2x4"),
        (["5 °C", "0 °C"], "5 ℃", "5 °C"),
        (["10²", "3"], "10^2", "10²"),
        (["10^-3", "3"], "10⁻³", "10^-3"),
        (["5th", "6th"], "5ᵗʰ", "5th"),
        (["10 m²", "10 m³"], "10㎡", None),
        (["10m²", "10m³"], "10㎡", "10m²"),
        (["kΩ", "Ω"], "Ω", "Ω"),
        (["weiß", "rot"], "WEISS", "weiß"),
        (["kırmızı", "mavi"], "KIRMIZI", "kırmızı"),
        (["İnce", "kalın"], "ince", "İnce"),
        (["5", "8"], "5.", "5"),
        (["5", "8"], "'5'", "5"),
        (["-0.5", "0.5"], "-.5", "-0.5"),
        # what is another value
        (["5", "8"], "<5", None),
        (["5", "8"], "5+", None),
        (["5", "8"], "≥5", None),
        (["5", "8"], "+5", None),
        (["5", "8"], "±5", None),
        (["5", "8"], "- 5", None),
        (["5", "8"], "–5", None),
        (["5", "8"], "~5", None),
        (["5", "8"], "5'", None),
        (["5", "8"], '5"', None),
        (["5", "8"], "5%", None),
        (["50", "80"], "50%", None),
        (["50", "80"], "5.0", None),
        (["5", "8"], "5*", None),
        (["5", "8"], "(5)", None),
        (["1", "2"], "#1", None),
        (["1", "2"], "No. 1", None),
        (["15", "2"], "1,5", None),
        (["15", "2"], "1.5", None),
        (["12", "2"], "1/2", None),
        (["12", "2"], "½", None),
        (["112", "2"], "1½", None),
        (["11/2", "2"], "1½", None),
        (["1/25", "2"], "½5", None),
        (["12", "2"], "①②", None),
        (["102", "2"], "10₂", None),
        (["103", "10-3"], "10⁻³", None),
        (["10 12", "8"], "10-12", None),
        (["1012", "8"], "10-12", None),
        (["size 5", "size 8"], "size -5", None),
        (["C", "D"], "C#", None),
        (["C", "D"], "C++", None),
        (["C", "C#", "C++"], "c#", "C#"),
        (["C", "C#", "C++"], "c", "C"),
        (["A", "B"], "A-", None),
        (["A", "B"], "A+", None),
        (["A", "B"], "-A", None),
        (["AA", "BB"], "AA-", None),
        (["+/-", "+"], "+/-", "+/-"),
        (["+/-", "+"], "+", "+"),
        (["-", "+"], "–", "-"),
        ([".", "-"], " ", None),
        (["c", "C"], " C.", "C"),
        (["mW", "MW"], "mw", None),
        (["mW", "MW", "Other"], "OTHER", "Other"),
        (["Ω", "ω"], "ω", "ω"),
        (["Maße", "Masse"], "masse", "Masse"),
        (["x²", "x2"], "x2", "x2"),
        (["<5", "5", "5+"], "<5", "<5"),
        (["≤5", "<5"], "≤5", "≤5"),
        (["No. 5", "5"], "no. 5", "No. 5"),
        (["No. 5", "5"], "№. 5", "No. 5"),
        (["1,5", "15"], "1,5", "1,5"),
        (["$5", "5"], "$5", "$5"),
        (["red", "blue"], "red; blue", None),
        (["red", "blue"], "reddish", None),
        (["red", "blue"], "", None),
        (["red", "blue"], "\u200b", None),
        (["red", "blue"], "''", None),
    ],
)
def test_an_answer_is_the_value_that_it_means(values: list[str], text: str, right: str | None) -> None:
    assert listed(*values).canonical(text) == right


def test_no_number_is_taken_for_another_number() -> None:
    attribute = listed("5", "8")
    texts = ("".join(chars) for n in range(1, 5) for chars in itertools.product("5.-−+/%²½'\" _", repeat=n))
    taken = [text for text in texts if attribute.canonical(text)]
    assert {"5", "5.", " 5.", "'5'", '"5"'} <= set(taken)
    assert [text for text in taken if re.search(r"[-−+/%²½]|\.5|5.*5", text)] == []


@pytest.mark.parametrize(
    "values",
    [
        ["A-", "A", "A+"],
        ["6'", '6"', "6"],
        ["mW", "MW"],
        ["c", "C"],
        ["m²", "m³", "m2"],
        ["<5", "5", "5+", "≥5", "-5", "+5", "±5", ".5", "0.5", "5%", "#5", "5'", '5"', "5.", "1/5", "1,5"],
        ["C", "C#", "C++", "c"],
        ["Ω", "ω"],
        ["i", "I", "İ", "ı"],
        ["ß", "ss"],
        ["-", "+", "+/-", ".", "–", "*", "_", "'", '"'],
        ["x-large", "x large", "xlarge"],
        ["10 12", "10-12"],
        ["¾", "3/4"],
    ],
)
def test_every_value_of_a_valid_list_is_itself(values: list[str]) -> None:
    attribute, many = listed(*values), listed(*values, many=True)
    assert [attribute.canonical(value) for value in values] == values
    assert [many.canonical(value) for value in values] == values
    assert many.canonical(values) == "; ".join(values) == many.canonical("; ".join(reversed(values)))


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (["red", "red"], "a value is listed twice"),
        (["red", " red\u200b"], "a value is listed twice"),
        (["crème", unicodedata.normalize("NFD", "crème")], "a value is listed twice"),
        (["red", "\u200b"], "is empty"),
        (["red", " "], "is empty"),
        (["red; blue", "red"], "must not contain ';'"),
        (["red\nblue", "red"], "a line break"),
    ],
)
def test_values_that_nobody_can_tell_apart_are_refused(values: list[str], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        listed(*values)


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["mug", "mug "], r"the names 'mug' and 'mug ' look the same: keep one of them"),
        (["mug", "mug\u200b"], r"the names 'mug' and 'mug\\u200b' look the same"),
        (["caf\u00e9", "cafe\u0301"], r"the names 'caf\\xe9' and 'cafe\\u0301' look the same"),
        (["tea cup", "tea\u00a0cup"], "look the same"),
        (["mug", ""], "the name '' is empty"),
        ([" "], "the name ' ' is empty"),
    ],
)
def test_names_that_nobody_can_tell_apart_are_refused(names: list[str], fault: str) -> None:
    attribute = listed("red", "blue")
    with pytest.raises(ValidationError, match=fault):
        Vertical(attributes=dict.fromkeys(names, attribute))
    with pytest.raises(ValidationError, match=fault):
        Schema(verticals=dict.fromkeys(names, Vertical(attributes={"colour": attribute})))


def test_a_synonym_is_its_value_and_only_that() -> None:
    attribute = Attribute(
        values=(Value(name="millimetre", synonyms=("mm", "Mm.")), Value(name="megametre", synonyms=("Mm",)))
    )
    assert [attribute.canonical(text) for text in ("mm", "Mm", "MM", "Mm.", "Millimetre")] == [
        *("millimetre", "megametre", None, "millimetre", "millimetre")
    ]
    with pytest.raises(ValidationError, match="'mm' stands for both 'a' and 'b'"):
        Attribute(values=(Value(name="a", synonyms=("mm",)), Value(name="b", synonyms=("mm",))))
    with pytest.raises(ValidationError, match="'a' stands for both 'b' and 'a'"):
        Attribute(values=(Value(name="b", synonyms=("a",)), Value(name="a")))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("heart; dotted", "dotted; heart"),
        ("Heart;dotted;", "dotted; heart"),
        ("heart\ndotted", "dotted; heart"),
        ("heart；dotted", "dotted; heart"),
        (["heart", "Dotted "], "dotted; heart"),
        (["heart", "heart"], "heart"),
        ("none", "none"),
        (["none"], "none"),
        ("none; none", "none"),
        ("none; dotted", None),
        ("dotted; NONE.", None),
        (["none", "dotted"], None),
        ("not visible; heart", None),
        ("heart; other", None),
        ("none; not_visible", None),
        ("heart; oval", None),
        ([], None),
        (";", None),
        ("", None),
        (None, None),
    ],
)
def test_an_answer_of_several_values(answer: str | list[str] | None, right: str | None) -> None:
    assert listed("none", "dotted", "heart", "not_visible", "other", many=True).canonical(answer) == right


def test_one_of_several_is_no_answer_where_one_is_allowed() -> None:
    assert listed("dotted", "heart").canonical(["dotted", "heart"]) is None
    assert listed("dotted", "heart").canonical(["dotted", "Dotted"]) == "dotted"


def test_values_that_are_spelt_nearly_the_same_are_told() -> None:
    attributes = {"size": listed("S", "M"), "power": listed("mW", "MW", "W"), "print": listed("polka-dot", "polka dot")}
    schema = Schema(verticals={"lamp": Vertical(attributes=attributes)})
    assert schema.alike() == ["lamp/power: 'mW' and 'MW'", "lamp/print: 'polka-dot' and 'polka dot'"]


def test_abstention_is_recognised_in_any_spelling() -> None:
    assert all(abstains(text) for text in ("not_visible", "Not visible", "NOT-VISIBLE.", "not\u200b_visible"))
    assert not any(abstains(text) for text in (None, "", "none", "visible", "not_visible; red"))

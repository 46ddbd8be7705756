"""What a chain answers is what follows its last 'Answer:'."""

from typing import Any

import pytest

from attrloop.components.catalogue.prompts import answer_of, completion, cut, is_cut, question, rationale_of
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import Attribute, Value

LIST = ("cotton", "wool", "6'", '6"', "-5 °C", "5 °C", "A-", "*")


def listed(many: bool = False) -> Attribute:
    return Attribute(values=tuple(Value(name=value) for value in LIST), many=many)


@pytest.mark.parametrize(
    ("text", "answer", "rationale"),
    [
        ("The answer: it is wool. Answer: cotton", "cotton", "The answer: it is wool."),
        ("I see cotton. Answer: cotton", "cotton", "I see cotton."),
        ("I see cotton. Answer:", None, "I see cotton."),
        ("Answer: wool\nAnswer: cotton", "cotton", "Answer: wool"),
        ("I see it. answer : Cotton", "cotton", "I see it."),
        ("I see it. ANSWER:cotton", "cotton", "I see it."),
        ("I see it.\nAnswer：cotton", "cotton", "I see it."),
        ("I see it. Answer: cotton.", "cotton", "I see it."),
        ("I see it. Answer: 'cotton'", "cotton", "I see it."),
        ("I see it. Answer: “cotton”", "cotton", "I see it."),
        ("I see it. Final answer: cotton", "cotton", "I see it. Final"),
        ("I see it.\n\n**Answer:** cotton", "cotton", "I see it."),
        ("I see it. **Answer: cotton**", "cotton", "I see it."),
        ("I see it. **Answer**: cotton", "cotton", "I see it."),
        ("I see it. **Answer:** **cotton**", "cotton", "I see it."),
        ("I see it. Answer: **cotton**", "cotton", "I see it."),
        ("I see it. Answer:**cotton**", "cotton", "I see it."),
        ("I see it. Answer: `cotton`", "cotton", "I see it."),
        ("I see it. _Answer:_ cotton", "cotton", "I see it."),
        ("I see it. Answer: *", "*", "I see it."),
        ("I see it.\nAnswer:\ncotton", "cotton", "I see it."),
        ("I see it.\nAnswer:\r\n\r\n  cotton\r\n", "cotton", "I see it."),
        ("I see it. Answer: cotton\nIt is soft.", "cotton", "I see it."),
        ("I see it. Answer - cotton", "cotton", "I see it."),
        ("I see it.\nAnswer – cotton", "cotton", "I see it."),
        ("I see it. Answer = cotton", "cotton", "I see it."),
        ("I see it. Answer: cotton\nI trust this answer - it is soft.", "cotton", "I see it."),
        ("I have no answer - wool", None, "I have no answer - wool"),
        ("I see it. Answer: -5 °C", "-5 °C", "I see it."),
        ("I see it. Answer - 5 °C", "5 °C", "I see it."),
        ("I see it. Answer: A-", "A-", "I see it."),
        ("I see it. Answer: 6'", "6'", "I see it."),
        ('I see it. Answer: 6"', '6"', "I see it."),
        ('{"rationale": "I see it", "answer": "cotton"}', "cotton", '{"rationale": "I see it",'),
        ('{"Answer":["cotton"], "sure": true}', "cotton", "{"),
        ("Answer: cotton. Answer: silk", None, "Answer: cotton."),
        ("Answer: cotton or wool", None, ""),
        ("I see cotton.", None, "I see cotton."),
        ("An unanswered question. Reanswer: cotton", None, "An unanswered question. Reanswer: cotton"),
        ("cotton", None, "cotton"),
        ("", None, ""),
        ("[" * 5_000 + '"answer": ' + "[" * 5_000, None, "[" * 5_000),
    ],
)
def test_what_a_chain_answers_and_why(text: str, answer: str | None, rationale: str) -> None:
    assert (answer_of(text, listed()), rationale_of(text)) == (answer, rationale)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I see both. Answer: wool; cotton", "cotton; wool"),
        ("I see both. Answers: wool; cotton", "cotton; wool"),
        ("I see both.\nAnswer:\n- wool\n- cotton\n\nBoth are soft.", "cotton; wool"),
        ("I see both.\nAnswer:\nwool; cotton\nBoth are soft.", "cotton; wool"),
        ("I see one. Answer: wool\ncotton is softer", "wool"),
        ('{"answer": ["wool", "cotton"]}', "cotton; wool"),
        ("Answer: wool; silk", None),
        ("Answer:\n\n* wool\n\n* cotton", "cotton; wool"),
        ("Answer:\n\nwool\n\ncotton\n\nBoth are soft.", "cotton; wool"),
        ("Answer: wool;\ncotton", "cotton; wool"),
        ("Answer: wool,\r\n\r\ncotton.\r\n", "cotton; wool"),
        ("Answer: wool\n- cotton", "cotton; wool"),
        ("Answer: wool\ncotton", "cotton; wool"),
        ("**Answer: wool**\n**cotton**", "cotton; wool"),
        ("**Answer:\nwool\ncotton**", "cotton; wool"),
        ("Answer: wool\n- silk", None),
        ("Answer:\n- wool\n- silk", None),
        ("Answer: wool;\nIt is soft.", None),
        ("Answer: wool\n2. cotton", None),
        ("Answer: wool\nand cotton", None),
        ("Answer: wool\n• cotton", "cotton; wool"),
        ("Answer: wool\na) cotton", None),
        ("Answer: wool\n> cotton", None),
        ("Answer: wool\n(cotton)", None),
        ("Answer: wool\ncotton and silk", None),
        ("Answer: wool\n```\nIt is soft.", "wool"),
        ("Answer: wool\ncotton (inside)", None),
        ("Answer: wool\ncotton; silk", None),
        ("Answer: wool\nIt is soft.\ncotton", "wool"),
    ],
)
def test_what_a_chain_answers_where_several_values_are_allowed(text: str, answer: str | None) -> None:
    assert answer_of(text, listed(many=True)) == answer


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("5", "5"),
        ("0.5", "0.5"),
        ("-2.25", "-2.25"),
        ("2.50", "2.50"),
        ("1e3", "1e3"),
        ('"5"', "5"),
        ("[5]", "5"),
        ("5.0", None),
        ("2.5", None),
        ("2.25", None),
        ("1000", None),
        ("true", None),
        ("null", None),
    ],
)
def test_a_number_of_json_is_the_value_that_is_written_so(said: str, answer: str | None) -> None:
    numbers = Attribute(values=tuple(Value(name=value) for value in ("5", "0.5", "-2.25", "2.50", "1e3")))
    assert answer_of(f'{{"answer": {said}}}', numbers) == answer
    assert answer_of(f'{{"answer":\n{said},\n"sure": 1}}', numbers) == answer


@pytest.mark.parametrize(
    "rationale", ["", "I see it.", "The answer: it is wool.", "Answer - wool", "**Answer:**", "A 'b"]
)
def test_every_value_is_read_back_from_what_is_taught(rationale: str) -> None:
    taught = [completion(rationale, value) for value in LIST]
    assert [answer_of(text, listed()) for text in taught] == list(LIST)
    assert {rationale_of(text) for text in taught} == {rationale}


def product(**known: Any) -> Listing:
    return Listing(id="m", vertical="mug", images=("a.png",), **known)


def asked(listing: Listing) -> str:
    return question(listing, "fibre", listed(), title=True, metadata=True)


def test_a_long_title_is_cut_at_a_word_with_a_mark_and_a_usual_one_is_whole() -> None:
    usual = product(title="Camp mug " * 22, metadata={"brand": "Acme", "story": "word " * 190})
    assert f"Title: {usual.title}\n" in asked(usual) and f"story {usual.metadata['story']}\n" in asked(usual)
    assert not is_cut(usual)
    long = product(title="mugs " * 200_000, metadata={"story": "word " * 200_000, "brand": "Acme"})
    title, known = asked(long).splitlines()[:2]
    assert title == f"Title: {'mugs ' * 198}mugs [...]" and len(title) <= 1_007
    assert known.startswith("Known: story word word") and known.endswith("word [...], brand Acme")
    assert is_cut(long) and len(asked(long)) < 2_500


@pytest.mark.parametrize(
    "listing",
    [
        product(title="x" * 1_000_000),
        product(metadata={"x" * 1_000_000: "y"}),
        product(metadata={f"key {k}": "value" for k in range(100_000)}),
        product(title="语" * 1_000_000, metadata={str(k): "x" * 900 for k in range(1_000)}),
    ],
)
def test_no_listing_makes_a_prompt_long(listing: Listing) -> None:
    assert is_cut(listing) and "[...]" in asked(listing) and len(asked(listing)) < 6_300


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a blue mug", "a blue mug"),
        ("a blue enamel mug", "a blue [...]"),
        ("a bluest enamel mug", "a [...]"),
        ("abcdefghijklmnop", "abcdef [...]"),
        ("", ""),
    ],
)
def test_text_is_cut_between_words_where_there_are_some(text: str, shown: str) -> None:
    assert cut(text, 12) == shown and len(shown) <= 12

"""Records survive Parquet: nulls are None where a record allows it, and absent where it does not."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from attrloop.components.catalogue.readers import read_labels, read_rows
from attrloop.components.catalogue.records import Chain, Label, Listing, Pair, Prediction, Record, to_frame
from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import InputError, Problem

PREDICTION = {
    "listing": "m-1",
    "vertical": "mug",
    "attribute": "colour",
    "split": "test",
    "gold": "red",
    "confidence": 0.5,
    "text": "hm",
    "tokens": 1,
}
CHAIN = {
    "listing": "m-1",
    "vertical": "mug",
    "attribute": "colour",
    "view": 0,
    "chain": 0,
    "text": "hm",
    "logprob": -1.0,
    "tokens": 1,
}
PAIR = {
    "listing": "m-1",
    "vertical": "mug",
    "attribute": "colour",
    "view": 0,
    "chosen": "Answer: red",
    "chosen_answer": "red",
    "agreement": 1.0,
    "weight": 1.0,
}
ROWS: list[Record] = [
    *(Prediction.model_validate({**PREDICTION, "answer": answer}) for answer in (None, "red")),
    *(Chain.model_validate({**CHAIN, "answer": answer}) for answer in (None, "red")),
    Pair.model_validate({**PAIR, "rejected": None, "rejected_answer": None, "source": "anchor"}),
    Pair.model_validate({**PAIR, "rejected": "hm", "rejected_answer": None, "source": "consensus"}),
]


@pytest.mark.parametrize("record", [Prediction, Chain, Pair])
def test_what_is_written_is_read_again(tmp_path: Path, record: type[Record]) -> None:
    rows = [row for row in ROWS if isinstance(row, record)]
    to_frame(rows, record).write_parquet(tmp_path / "rows.parquet")
    assert read_rows(tmp_path / "rows.parquet", record) == list(enumerate(rows, 1))


@pytest.mark.parametrize(
    "reviewed", [{}, {"source": "review", "reviewer": "7", "reviewed_at": "2026-11-26T03:10:05.007284Z"}]
)
def test_a_label_may_say_who_reviewed_it_and_when(tmp_path: Path, reviewed: dict[str, str]) -> None:
    row = {"listing": "m-1", "attribute": "colour", "value": "red", **reviewed}
    (tmp_path / "labels.jsonl").write_text(json.dumps(row))
    ((_, label),) = read_rows(tmp_path / "labels.jsonl", Label)
    written = json.loads(label.model_dump_json(exclude_none=True))
    assert written == {"source": "human", "rationale": "", "cost": 0.0, **row}


def test_a_null_of_parquet_takes_the_default(tmp_path: Path) -> None:
    rows = [{"listing": "m-1", "attribute": "colour", "value": "red", "rationale": None, "split": None, "cost": None}]
    pl.DataFrame(rows, schema_overrides={"rationale": pl.String, "split": pl.String, "cost": pl.Float64}).write_parquet(
        tmp_path / "labels.parquet"
    )
    assert read_rows(tmp_path / "labels.parquet", Label) == [(1, Label(listing="m-1", attribute="colour", value="red"))]


def test_metadata_that_only_some_listings_have_can_be_parquet(tmp_path: Path) -> None:
    listings = [
        Listing(id="m-1", vertical="mug", images=("a.png",), metadata={"brand": "Oak"}),
        Listing(id="m-2", vertical="mug", images=("a.png", "b.png"), title="A mug", metadata={"size": "L"}),
        Listing(id="m-3", vertical="mug", images=("a.png",)),
    ]
    pl.DataFrame([listing.model_dump() for listing in listings]).write_parquet(tmp_path / "listings.parquet")
    assert [listing for _, listing in read_rows(tmp_path / "listings.parquet", Listing)] == listings


def test_a_null_where_a_value_is_needed_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"id": ["m-1", "m-2"], "vertical": ["mug", None], "images": [["a.png"], ["b.png"]]}).write_parquet(
        tmp_path / "listings.parquet"
    )
    with pytest.raises(InputError, match=r"listings\.parquet:2 \(m-2\): vertical: missing. Add it"):
        read_rows(tmp_path / "listings.parquet", Listing)


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    rows = [
        Listing(id=f"m-{k}", vertical="mug", images=("a.png",), title="Café" if k == 2 else None).model_dump_json()
        for k in range(5)
    ]
    (tmp_path / "listings.jsonl").write_bytes("\n".join(rows).encode("latin-1"))
    with pytest.raises(
        InputError, match=r"listings\.jsonl:3: not UTF-8 text \(byte \d+ of the line\)\. Save the file as UTF-8"
    ):
        read_rows(tmp_path / "listings.jsonl", Listing)


@pytest.mark.parametrize(
    "fault",
    [lambda data: data[:-20], lambda data: b"", lambda data: b'{"id": "m-1"}\n'],
    ids=["cut off", "empty", "JSON"],
)
def test_what_is_no_parquet_is_named(tmp_path: Path, fault: Callable[[bytes], bytes]) -> None:
    pl.DataFrame({"id": ["m-1"], "vertical": ["mug"], "images": [["a.png"]]}).write_parquet(
        tmp_path / "listings.parquet"
    )
    (tmp_path / "listings.parquet").write_bytes(fault((tmp_path / "listings.parquet").read_bytes()))
    with pytest.raises(
        InputError, match=r"listings\.parquet: not a Parquet file that can be read \(.+\)\. Write the file again"
    ):
        read_rows(tmp_path / "listings.parquet", Listing)


SCHEMA = Schema.model_validate(
    {"verticals": {"mug": {"attributes": {"print": {"values": ["none", "dotted", "heart"], "many": True}}}}}
)
MUG = Listing(id="m-1", vertical="mug", images=("a.png",))


def test_none_beside_another_value_is_refused_as_a_label_and_the_row_is_named(tmp_path: Path) -> None:
    rows = [
        {"listing": f"m-{k}", "attribute": "print", "value": v} for k, v in enumerate(["heart; dotted", "none; dotted"])
    ]
    (tmp_path / "labels.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    problems: list[Problem] = []
    listings = {f"m-{k}": MUG.model_copy(update={"id": f"m-{k}"}) for k in range(2)}
    (label,) = read_labels(tmp_path / "labels.jsonl", SCHEMA, listings, problems)
    assert label.value == "dotted; heart"
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in problems] == [
        "labels.jsonl:2 (listing m-1): 'none; dotted' is not a value of print. Use one of: none, dotted, heart "
        "(none only alone); or add it to the schema."
    ]


ROW = {"id": "m-1", "vertical": "mug", "images": ["a.jpg"]}


def faults(tmp_path: Path, *lines: str | bytes, name: str = "listings.jsonl") -> list[str]:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    (tmp_path / name).write_bytes(b"\n".join(encoded) + b"\n")
    found: list[Problem] = []
    rows = read_rows(tmp_path / name, Listing, found)
    assert [row.id for _, row in rows] == ["m-0", "m-9"], "the rows around it are read"
    told = [str(problem).removeprefix(f"{tmp_path}/") for problem in found]
    assert all(problem.encode() and len(problem) < 400 for problem in told), "can be shown"
    return told


def row(**fields: object) -> str:
    return json.dumps(ROW | fields)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            '{"id": "m1", "vertical": "mug", "images": ["a.jpg"], "title": "cut in the middle \\ud83d"}',
            "listings.jsonl:2 (m1): a text holds half a character (\\ud83d)",
        ),
        (row(id="m\ud83d"), "listings.jsonl:2 (m\\ud83d): a text holds half a character (\\ud83d)"),
        (row(metadata={"\udc00": "x"}), "listings.jsonl:2 (m-1): a text holds half a character (\\udc00)"),
        (row(images=["a\0.jpg"]), "listings.jsonl:2 (m-1): a text holds a NUL character"),
        ('{"id": "m-1", "id": "m-2"}', "listings.jsonl:2 (m-2): the key 'id' is given twice"),
        (
            '{"id": "m-1", "metadata": {"size": "S", "size": "L"}}',
            "listings.jsonl:2 (m-1): the key 'size' is given twice",
        ),
        (
            '{"id": "m-1", "metadata": ' + "[" * 5_000,
            "listings.jsonl:2: nested deeper than 100 levels. Write it flatter",
        ),
        (
            '{"id": "m-1", "metadata": ' + "[" * 150 + "]" * 150 + "}",
            "listings.jsonl:2 (m-1): nested deeper than 100 levels. Write it flatter",
        ),
        ('{"id": ' + "9" * 5_000 + "}", "listings.jsonl:2 (inf): a number of 5,000 digits"),
        ('{"id": "m-1", "title": ' + "9" * 5_000 + "}", "listings.jsonl:2 (m-1): a number of 5,000 digits"),
        ('{"id": "m-1", "title": NaN}', "listings.jsonl:2 (m-1): NaN is not a number"),
        ('{"id": "m-1", "title": 1e999}', "listings.jsonl:2 (m-1): 1e999 is larger than any number"),
        (row(id=int("9" * 300)), f"listings.jsonl:2 ({'9' * 80}): id: not text. Write a text"),
        ("[" + row() + "]", "listings.jsonl:2 (not an object): the row: not an object. Write an object: {"),
        ('{"id": "m-1"', "listings.jsonl:2: not valid JSON ("),
        (row(images="a.jpg"), 'listings.jsonl:2 (m-1): images: not a list. Write a list: ["a.jpg"].'),
        (row(images={"a": 1}), 'listings.jsonl:2 (m-1): images: not a list. Write a list: ["a.jpg", "b.jpg"].'),
        (row(images=[]), "listings.jsonl:2 (m-1): images: has 0 of at least 1 entries. List more entries."),
        (row(images=[None]), "listings.jsonl:2 (m-1): images.0: not text. Write a text."),
        (row(metadata={"brand": 5}), 'listings.jsonl:2 (m-1): metadata.brand: not text. Write a text: "5".'),
        (row(metadata={"new": True}), 'listings.jsonl:2 (m-1): metadata.new: not text. Write a text: "true".'),
        (row(metadata=["x"]), "listings.jsonl:2 (m-1): metadata: not an object. Write an object: {"),
        (row(id=""), "listings.jsonl:2 (no id): id: empty. Write a text."),
        (row(brand="Acme"), "listings.jsonl:2 (m-1): brand: unknown key. Remove it or correct its spelling."),
        (b'{"id": "m-1\0"}', "listings.jsonl:2: not valid JSON (Invalid control character"),
        (row(title="x" * 10_000_000), "listings.jsonl:2: longer than 10,000,000 bytes"),
        (row(title="\u00e9" * 1_700_000), "listings.jsonl:2: longer than 10,000,000 bytes"),
        (b" " * 25_000_000, "listings.jsonl:2: longer than 10,000,000 bytes"),
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_row_that_cannot_be_stored_is_named_and_the_others_are_read(
    tmp_path: Path, line: str | bytes, fault: str
) -> None:
    (told,) = faults(tmp_path, row(id="m-0"), line, row(id="m-9"))
    assert told.startswith(fault)


def test_a_byte_order_mark_and_other_line_ends_are_no_text(tmp_path: Path) -> None:
    title = "one \u2028 line \x85 and no more"
    rows = [json.dumps(ROW | {"id": f"m-{k}", "title": title}, ensure_ascii=False) for k in range(3)]
    (tmp_path / "listings.jsonl").write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    assert [found.title for _, found in read_rows(tmp_path / "listings.jsonl", Listing)] == [title] * 3


@pytest.mark.parametrize(
    ("encoding", "fault"), [("utf-16", "not UTF-8 text but UTF-16"), ("gzip", "not text but a gzip file")]
)
def test_a_file_that_is_no_utf8_is_named(tmp_path: Path, encoding: str, fault: str) -> None:
    data = gzip.compress(row().encode()) if encoding == "gzip" else row().encode(encoding)
    (tmp_path / "listings.jsonl").write_bytes(data)
    with pytest.raises(InputError, match=rf"listings\.jsonl:1: {fault}"):
        read_rows(tmp_path / "listings.jsonl", Listing)


def test_a_file_with_a_fault_in_every_row_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "listings.jsonl").write_text('{"other": 1}\n' * 3_000)
    found: list[Problem] = []
    assert read_rows(tmp_path / "listings.jsonl", Listing, found) == []
    assert 1_000 <= len(found) < 1_010


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        ({"split": "val"}, "split: not one of the words that are allowed. Use train, validation or test."),
        ({"source": "model"}, "source: not one of the words that are allowed. Use api, human or review."),
        ({"reviewed_at": "soon"}, "reviewed_at: not a date and time with a time zone. Write it like 2026-11-26T03:10"),
        ({"reviewed_at": "2026-01-01T00:00:00"}, "reviewed_at: not a date and time with a time zone. Write it like"),
        ({"cost": "much"}, "cost: not a number. Write a number that is finite, such as 0.5."),
        ({"value": ["dotted"]}, "value: not text. Write a text."),
    ],
)
def test_a_label_that_says_something_else_is_told_in_plain_words(
    tmp_path: Path, field: dict[str, object], fault: str
) -> None:
    (tmp_path / "labels.jsonl").write_text(json.dumps({"listing": "m-1", "attribute": "a", "value": "b"} | field))
    with pytest.raises(InputError) as caught:
        read_rows(tmp_path / "labels.jsonl", Label)
    assert str(caught.value.problems[0]).startswith(f"{tmp_path}/labels.jsonl:1 (m-1): {fault}")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_the_cost_of_a_label_is_a_number(tmp_path: Path, value: float) -> None:
    pl.DataFrame({"listing": ["m-1"], "attribute": ["a"], "value": ["b"], "cost": [value]}).write_parquet(
        tmp_path / "labels.parquet"
    )
    with pytest.raises(InputError, match=r"labels\.parquet:1 \(m-1\): cost: not a number. Write a number"):
        read_rows(tmp_path / "labels.parquet", Label)


def test_a_rationale_or_value_of_a_whole_page_is_named_and_not_shown(tmp_path: Path) -> None:
    usual = {"attribute": "print", "value": "dotted", "rationale": "I see dots. " * 160}
    long = {"rationale": "dots " * 600_000}, {"value": "dots " * 600_000}
    rows = [usual | change | {"listing": f"m-{k}"} for k, change in enumerate([{}, *long])]
    (tmp_path / "labels.jsonl").write_text("".join(f"{json.dumps(label)}\n" for label in rows))
    problems: list[Problem] = []
    listings = {f"m-{k}": MUG.model_copy(update={"id": f"m-{k}"}) for k in range(3)}
    (label,) = read_labels(tmp_path / "labels.jsonl", SCHEMA, listings, problems)
    assert label.rationale == usual["rationale"]
    told = [str(problem) for problem in problems]
    assert (
        "labels.jsonl:2 (listing m-1): the rationale has 3,000,000 characters, more than 2,000. Shorten it" in told[0]
    )
    assert "labels.jsonl:3 (listing m-2): 'dots dots" in told[1] and max(map(len, told)) < 500

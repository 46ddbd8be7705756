"""Records survive Parquet: nulls are None where a record allows it, and absent where it does not."""

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
    with pytest.raises(InputError, match=r"listings\.parquet:2 \(m-2\): vertical: Field required"):
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

"""What people answered in Label Studio comes back as labels, and adds to those that are there."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.records import Label, Listing
from attrloop.components.catalogue.schema import Schema, load_schema
from attrloop.components.errors import InputError
from attrloop.components.gold.stated import stated_splits
from attrloop.components.predict.label_studio import Imported, import_labels, read_export
from attrloop.components.run.config import DataConfig, ModelConfig, RunConfig

EXPORTS = Path(__file__).with_name("exports")  # written by Label Studio 1.23.2 from tasks of ours


class Shop:
    """A catalogue of mugs in a folder, with a labels file that reviews are imported into."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "labels.jsonl"
        colour = {"values": ["red", {"name": "blue", "synonyms": ["azure"]}, "green", "not_visible"]}
        decor = {"values": ["dots", "hearts", "none"], "many": True}
        sizes = {"values": ["1", "2", "[3]", '{"4"']}
        entry = {"attributes": {"colour": colour, "decor": decor, "size": sizes}}
        (folder / "schema.yaml").write_text(yaml.safe_dump({"verticals": {"mug": entry}}))
        rows = [Listing(id=f"mug-{k}", vertical="mug", images=("a.png",)) for k in range(6)]
        (folder / "listings.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
        data = DataConfig(catalogue_schema=str(folder / "schema.yaml"), listings=str(folder / "listings.jsonl"))
        self.config = RunConfig(data=data, model=ModelConfig(base="none"))
        self.schema = load_schema(data.catalogue_schema)

    def given(self, *rows: dict[str, Any], file: str = "given.jsonl") -> None:
        """Labels that the config names."""
        (self.folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = self.config.data.model_copy(update={"labels": str(self.folder / file)})
        self.config = self.config.model_copy(update={"data": data})

    def imported(self, *tasks: Any) -> Imported:
        export = self.folder / "export.json"
        export.write_text(json.dumps(tasks))
        return import_labels(export, self.config, self.output)

    def labels(self) -> dict[str, Label]:
        known = {f"mug-{k}": Listing(id=f"mug-{k}", vertical="mug", images=("a.png",)) for k in range(6)}
        found = read_labels(self.output, self.schema, known)
        return {f"{label.listing}/{label.attribute}": label for label in found}

    def values(self) -> dict[str, str]:
        return {name: label.value for name, label in self.labels().items()}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def choices(*values: str) -> dict[str, Any]:
    return {"from_name": "answer", "to_name": "why", "type": "choices", "value": {"choices": list(values)}}


def annotation(*values: str, by: int | None = 1, at: str | None = None, **more: Any) -> dict[str, Any]:
    return {"completed_by": by, "updated_at": at, "result": [choices(*values)], **more}


def task(listing: Any, *annotations: Any, attribute: str = "colour", **data: Any) -> dict[str, Any]:
    asked = {"listing": listing, "vertical": "mug", "attribute": attribute, **data}
    return {"id": 7, "data": asked, "annotations": list(annotations)}


def label(listing: str, value: str, attribute: str = "colour", **more: Any) -> dict[str, Any]:
    return {"listing": listing, "attribute": attribute, "value": value, **more}


MORNING, NOON = "2026-11-26T03:10:05.007284Z", "2026-11-26T12:00:00Z"
SKIPPED = {"result": [], "was_cancelled": True}


def test_answers_become_labels_that_tell_who_reviewed_them_and_when(shop: Shop) -> None:
    found = shop.imported(
        task("mug-0", annotation("azure", at=MORNING)),
        task("mug-1", annotation("red", by=1, at=MORNING), annotation("red", by=2, at=NOON)),
        task("mug-2", annotation("hearts", "dots", at=MORNING), attribute="decor"),
        task("mug-3", SKIPPED),
        task("mug-4"),
        task("mug-5", SKIPPED, annotation("green", at=MORNING) | {"completed_by": {"id": 3, "email": "a@b.example"}}),
    )
    assert (found.skipped, found.disputed, found.unread) == (2, [], [])
    assert shop.values() == {
        "mug-0/colour": "blue", "mug-1/colour": "red", "mug-2/decor": "dots; hearts", "mug-5/colour": "green",
    }  # fmt: skip
    labels = shop.labels()
    assert [row.reviewer for row in labels.values()] == ["1", "2", "1", "a@b.example"]
    assert json.loads(shop.output.read_text().splitlines()[0])["reviewed_at"] == MORNING
    assert labels["mug-1/colour"].reviewed_at.hour == 12


def test_only_what_was_drawn_for_gold_is_a_human_label(shop: Shop) -> None:
    shop.imported(
        task("mug-0", annotation("red"), part="drawn"),
        task("mug-1", annotation("red"), part="uncertain"),
        task("mug-2", annotation("red")),
    )
    assert [row.source for row in shop.labels().values()] == ["human", "review", "review"]


def test_two_rounds_of_review_and_the_labels_of_the_config_are_all_kept(shop: Shop) -> None:
    gone = label("mug-gone", "Red", split="test")
    shop.given(label("mug-0", "red", rationale="Red.", split="test"), gone)
    shop.imported(task("mug-1", annotation("blue")))
    shop.imported(task("mug-1", annotation("none"), attribute="decor"), task("mug-2", annotation("green")))
    rows = [json.loads(line) for line in shop.output.read_text().splitlines()]
    assert [(row["listing"], row["attribute"], row["value"]) for row in rows] == [
        ("mug-0", "colour", "red"),
        ("mug-gone", "colour", "Red"),
        ("mug-1", "colour", "blue"),
        ("mug-1", "decor", "none"),
        ("mug-2", "colour", "green"),
    ]
    assert rows[0]["rationale"] == "Red."


def test_importing_again_changes_nothing(shop: Shop) -> None:
    shop.given(label("mug-0", "red", rationale="Red."), label("mug-1", "red"))
    export = [task("mug-0", annotation("red", at=NOON)), task("mug-1", annotation("blue", at=NOON))]
    shop.imported(*export)
    before = shop.output.read_text()
    found = shop.imported(*export)
    assert shop.output.read_text() == before and not found.disputed and not found.changed


def test_a_confirmed_label_keeps_rationale_cost_and_split_and_a_corrected_one_loses_a_wrong_reason(shop: Shop) -> None:
    kept: dict[str, Any] = {"rationale": "I see red.", "cost": 0.01, "split": "test", "source": "api"}
    shop.given(label("mug-0", "red", **kept), label("mug-1", "red", **kept))
    found = shop.imported(task("mug-0", annotation("red", at=NOON)), task("mug-1", annotation("blue", at=NOON)))
    confirmed, corrected = shop.labels().values()
    assert (confirmed.rationale, confirmed.cost, confirmed.split) == ("I see red.", 0.01, "test")
    assert (corrected.rationale, corrected.cost, corrected.split) == ("", 0.01, "test")
    assert confirmed.source == corrected.source == "human", "it was not the model's doubt that chose these listings"
    assert confirmed.reviewer == corrected.reviewer == "1"
    assert found.changed == ["mug-1/colour"]


def test_a_listing_stays_in_the_split_that_its_labels_name(shop: Shop) -> None:
    shop.given(label("mug-0", "red", split="test"), file="labels.jsonl")
    shop.imported(task("mug-0", annotation("none"), attribute="decor"))
    assert stated_splits(list(shop.labels().values()), "") == {"mug-0": "test"}


@pytest.mark.parametrize(
    "tasks",
    [
        [task("mug-0", annotation("red")), task("mug-0", annotation("blue", by=2))],
        [task("mug-0", annotation("red"), annotation("blue", by=2))],
        [task("mug-0", annotation("red", at=MORNING), annotation("blue", at=NOON))],
        [task("mug-0", annotation("red", ground_truth=True), annotation("blue", by=2, ground_truth=True))],
    ],
    ids=["the task twice", "two annotators", "one annotator twice", "two truths"],
)
def test_different_answers_are_a_dispute_that_gives_no_label(shop: Shop, tasks: list[Any]) -> None:
    shop.given(label("mug-0", "green", rationale="Green."), file="labels.jsonl")
    found = shop.imported(*tasks, task("mug-1", annotation("red")))
    assert found.disputed == ["mug-0/colour"]
    assert shop.values() == {"mug-0/colour": "green", "mug-1/colour": "red"}
    assert shop.labels()["mug-0/colour"].rationale == "Green."


def test_a_later_answer_of_one_person_counts_once_the_earlier_one_is_gone(shop: Shop) -> None:
    early, late = annotation("red", at=MORNING), annotation("blue", at=NOON)
    outcomes = []
    for standing in ([early], [early, late], [late]):
        found = shop.imported(task("mug-0", *standing))
        outcomes.append((shop.values()["mug-0/colour"], len(found.disputed), len(found.changed)))
    assert outcomes == [("red", 0, 0), ("red", 1, 0), ("blue", 0, 1)]


def test_the_ground_truth_wins(shop: Shop) -> None:
    truth = annotation("blue", by=2, ground_truth=True)
    found = shop.imported(
        task("mug-0", annotation("red"), truth),
        task("mug-1", annotation("red")),
        task("mug-1", truth),
        task("mug-2", annotation("red"), {**truth, "was_cancelled": True}),
    )
    assert shop.values() == {"mug-0/colour": "blue", "mug-1/colour": "blue", "mug-2/colour": "red"}
    assert not found.disputed


@pytest.mark.parametrize(
    ("second", "value", "told"),
    [
        (annotation("blue", by=2, at=NOON), "red", "disputed"),
        (annotation("blue", by=None, at=None), "red", "disputed"),
        (annotation("blue", by=1, at=NOON), "blue", "changed"),
        (annotation("blue", by=1, at="2026-11-25T00:00:00Z"), "red", ""),
        (annotation("blue", by=2, at="2026-11-25T00:00:00Z", ground_truth=True), "blue", "changed"),
    ],
    ids=["someone else", "nobody knows who", "the same person later", "the same person before", "the truth"],
)
def test_a_later_import_with_another_answer(shop: Shop, second: Any, value: str, told: str) -> None:
    shop.imported(task("mug-0", annotation("red", by=1, at=MORNING)))
    found = shop.imported(task("mug-0", second))
    assert shop.values() == {"mug-0/colour": value}
    assert {name for name in ("disputed", "changed") if getattr(found, name)} == ({told} if told else set())


def test_the_last_review_is_kept_whatever_the_order_of_the_imports(shop: Shop) -> None:
    first, last = (task("mug-0", annotation("red", by=k, at=at)) for k, at in ((1, MORNING), (2, NOON)))
    for reviewed in (first, last, first, task("mug-0", annotation("red", by=None))):
        shop.imported(reviewed)
    (label,) = shop.labels().values()
    assert label.reviewer == "2" and label.reviewed_at.hour == 12


def row(listing: str, **more: Any) -> dict[str, Any]:
    """Of the form JSON_MIN."""
    return {"id": 7, "listing": listing, "vertical": "mug", "attribute": "colour", **more}


def results(*items: Any) -> dict[str, Any]:
    return {"id": 1, "completed_by": 1, "result": list(items)}


@pytest.mark.parametrize(
    ("attribute", "given", "value"),
    [
        ("decor", results(choices("hearts"), choices("dots")), "dots; hearts"),
        ("colour", results(choices("red"), choices("red")), "red"),
        ("colour", results(choices("red"), {"from_name": "note", "value": {"text": ["hm"]}}), "red"),
        ("colour", results({"from_name": "answer", "value": {"taxonomy": [["Colours", "red"]]}}), "red"),
        ("decor", results({"from_name": "answer", "value": {"taxonomy": [["hearts"], ["dots"]]}}), "dots; hearts"),
        ("size", results({"from_name": "answer", "value": {"rating": 2}}), "2"),
        ("size", results({"from_name": "answer", "value": {"number": 1.0}}), "1"),
        ("colour", results({"from_name": "answer", "value": {"text": ["Red"]}}), "red"),
    ],
)
def test_every_kind_of_answer_is_read(shop: Shop, attribute: str, given: Any, value: str) -> None:
    found = shop.imported(task("mug-0", given, attribute=attribute))
    assert shop.values() == {f"mug-0/{attribute}": value} and not found.unread


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"id": 7, "annotations": [annotation("red")]}, "task 7): it has no data"),
        ({"id": 7, "data": None, "annotations": [annotation("red")]}, "task 7): it has no data"),
        ({"annotations": [], "data": {"listing": "mug-0"}}, "task number 1, listing mug-0): its data"),
        (task(9, annotation("red")), "its listing is 9, which is not text"),
        (task("", annotation("red")), "its data has no listing"),
        (task("mug-0", results({"from_name": "answer", "type": "choices"})), "annotation 1: its answer has no value"),
        (task("mug-0", results({"from_name": "answer", "value": {"rectangle": 1}})), "an answer with rectangle cannot"),
        (task("mug-0", results({"from_name": "answer", "value": {"choices": [True]}})), "the answer True cannot"),
        (task("mug-0", results({"from_name": "farbe", "value": {"choices": ["red"]}})), "'answer', only of farbe"),
        (task("mug-0", "red"), "an annotation is 'red'"),
        ({**task("mug-0"), "annotations": {"0": annotation("red")}}, "its annotations are \"{'0': {"),
        ({**task("mug-0"), "annotations": "red"}, "its annotations are 'red', which is not a list"),
        ({"data": task("mug-0")["data"], "completions": [annotation("red")]}, "its answers are completions"),
        (task("mug-0", {"id": 1, "result": {"choices": ["red"]}}), "annotation 1: its result is"),
        (task("mug-0", {"id": 1, "result": "red"}), "annotation 1: its result is 'red', which is not a list"),
        (task("mug-0", results("red")), "annotation 1: a result is 'red'"),
        (task("mug-0", results(None, choices("red"))), "annotation 1: a result is 'None'"),
        (row("mug-0", answer=True), "the answer True cannot be read. Answer the task again"),
        (row("mug-0", answer={}), "an answer with nothing in it cannot be read"),
        (row("mug-0", answer={"selected": "left"}), "an answer with selected cannot be read"),
        (task("mug-99", annotation("red")), "(listing mug-99): no such listing"),
        (None, "task number 1): not a task but 'None'"),
        ({"answer": "red", "id": 1}, "task 1): its data has no listing"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_and_the_rest_goes_on(shop: Shop, bad: Any, named: str) -> None:
    found = shop.imported(bad, task("mug-1", annotation("blue")))
    assert shop.values() == {"mug-1/colour": "blue"}
    assert len(found.unread) == 1 and named in str(found.unread[0]) and not found.skipped


@pytest.mark.parametrize(
    "bad",
    [
        {"result": None},
        {"result": [choices()]},
        {"result": [{"from_name": "answer", "value": None}]},
    ],
)
def test_what_holds_no_answer_is_skipped(shop: Shop, bad: Any) -> None:
    found = shop.imported(task("mug-0", bad), task("mug-1", annotation("blue")), {**task("mug-2"), "annotations": None})
    assert shop.values() == {"mug-1/colour": "blue"} and found.skipped == 2 and not found.unread


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (task("mug-0", annotation("red"), attribute="shape"), "'mug' has no attribute 'shape'"),
        (task("mug-0", annotation("red"), vertical="cup"), "'cup' has no attribute 'colour'"),
        (task("mug-99", annotation("red")), "1 reviewed listings are not in"),
        (task("mug-0", annotation("mauve")), r"listing mug-0\): 'mauve' is not a value of colour. Use one of: red"),
        (task("mug-0", annotation("red", "blue")), r"\['red', 'blue'\] cannot be together as the answer to colour"),
        (task("mug-0", annotation("none", "dots"), attribute="decor"), r"\['none', 'dots'\] cannot be together"),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_refused_and_nothing_is_written(shop: Shop, bad: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shop.imported(bad)
    assert not shop.output.exists()


def test_an_answer_about_another_vertical_than_the_listings_is_named_and_gives_no_label(shop: Shop) -> None:
    schema = yaml.safe_load((shop.folder / "schema.yaml").read_text())
    schema["verticals"]["cup"] = schema["verticals"]["mug"]
    (shop.folder / "schema.yaml").write_text(yaml.safe_dump(schema))
    asked_as_a_cup = task("mug-0", annotation("red", ground_truth=True), vertical="cup")
    found = shop.imported(asked_as_a_cup, task("mug-0", annotation("green")), task("mug-1", annotation("blue")))
    assert shop.output.read_text().count("\n") == 2 and '"vertical"' not in shop.output.read_text()
    assert [(row.listing, row.value) for row in found.labels] == [("mug-0", "green"), ("mug-1", "blue")]
    assert not found.disputed and len(found.unread) == 1
    assert "(listing mug-0): its colour was asked about as of a cup, and it is a mug now" in str(found.unread[0])


def test_two_labels_for_the_same_in_a_labels_file_are_named(shop: Shop) -> None:
    shop.given(label("mug-0", "red"), label("mug-0", "blue"), file="labels.jsonl")
    with pytest.raises(InputError, match=r"labels.jsonl:2 \(listing mug-0\): second label for colour"):
        shop.imported(task("mug-1", annotation("red")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "not a list of tasks"),
        ('["red"]', "not a list of tasks"),
        ("[" * 100_000, "."),
        ("id,answer\n1,red\n", "no columns listing and attribute"),
        ("", "."),
        ('listing,attribute\nmug-0,"colour', "."),
        ("listing,attribute,answer,answer\nmug-0,colour,red,blue", "has the column 'answer' twice"),
        (None, "no such file"),
    ],
    ids=["broken", "no list", "no tasks", "deep", "another CSV", "empty", "an open quote", "two answers", "absent"],
)
def test_what_is_no_export_is_refused(shop: Shop, text: str | None, message: str) -> None:
    export = shop.folder / "export.json"
    if text is not None:
        export.write_text(text)
    with pytest.raises(InputError, match=f"(?s){message}.*Export the project from Label Studio as JSON"):
        read_export(export, shop.schema)


@pytest.mark.parametrize(
    "text",
    ["listing,vertical,attribute,farbe\nmug-0,mug,colour,red", json.dumps([row("mug-0", farbe="red"), row("mug-1")])],
    ids=["CSV", "JSON_MIN"],
)
def test_an_export_whose_answers_have_another_name_is_refused(shop: Shop, text: str) -> None:
    (shop.folder / "export").write_text(text)
    with pytest.raises(InputError, match=r"has no column 'answer', .*only .*attribute, farbe. Keep the name 'answer'"):
        read_export(shop.folder / "export", shop.schema)


def test_one_row_whose_answer_has_another_name_is_named(shop: Shop) -> None:
    found = shop.imported(row("mug-0", farbe="red"), row("mug-1", answer="blue"), row("mug-2"))
    assert shop.values() == {"mug-1/colour": "blue"} and found.skipped == 1
    assert [str(problem).rpartition(": ")[2] for problem in found.unread] == [
        "it has no 'answer', only farbe. Answer the task again."
    ]


@pytest.mark.parametrize(
    ("marks", "values"),
    [
        ({"ground_truth": "True"}, {"mug-0/colour": "blue"}),
        ({"was_cancelled": "true"}, {"mug-0/colour": "red"}),
        ({"ground_truth": "true", "was_cancelled": "false"}, {"mug-0/colour": "blue"}),
    ],
)
def test_marks_that_were_written_as_text_count(shop: Shop, marks: dict[str, str], values: dict[str, str]) -> None:
    shop.imported(task("mug-0", annotation("red"), annotation("blue", by=2, **marks)))
    assert shop.values() == values


def demo_schema() -> Schema:
    upper = {"values": ["plain", "loop", "notched", "rounded", "collared"]}
    attributes = {"placement": {"values": ["none", "center", "right", "hem"]}, "upper": upper}
    return Schema.model_validate({"verticals": {"backpack": {"attributes": attributes}}})


@pytest.mark.parametrize(("form", "skipped"), [("json", 1), ("min.json", 0), ("csv", 0)])
def test_what_label_studio_exports_gives_the_same_labels_in_every_form(form: str, skipped: int) -> None:
    found = read_export(EXPORTS / f"queue.{form}", demo_schema())
    shown = [(row.listing, row.attribute, row.value, row.reviewer, str(row.reviewed_at)) for row in found.labels]
    assert shown == [
        ("backpack-00597", "placement", "none", "1", "2026-11-26 03:10:05.007284+00:00"),
        ("backpack-01086", "upper", "notched", "1", "2026-11-26 03:10:05.608310+00:00"),
    ]
    assert (found.disputed, found.unread) == (["backpack-00534/upper"], [])
    assert found.skipped == skipped, "JSON_MIN and CSV have no row for a skipped task"


def test_what_people_made_in_label_studio_is_read() -> None:
    entry = {"attributes": {"colour": {"values": ["red", "green", "blue", "not_visible"]}}}
    schema = Schema.model_validate({"verticals": {"mug": entry, "shirt": entry}})
    found = read_export(EXPORTS / "by-hand.json", schema)
    assert [(row.listing, row.value) for row in found.labels] == [("mug-7", "red"), ("mug-8", "green")]
    assert (found.skipped, found.disputed) == (1, ["shirt-9/colour"])


def in_csv(rows: Iterable[tuple[str, ...]], separator: str) -> str:
    return "\n".join(separator.join(f'"{field.replace(chr(34), chr(34) * 2)}"' for field in row) for row in rows)


@pytest.mark.parametrize("separator", [",", "\t"])
def test_csv_holds_several_values_long_fields_and_values_that_look_like_json(shop: Shop, separator: str) -> None:
    rows = [
        ("id", "listing", "vertical", "attribute", "answer", "images"),
        ("1", "mug-0", "mug", "decor", '{"choices":["hearts","dots"]}', f"data:{'A' * 300_000}"),
        ("2", "mug-1", "mug", "size", "[3]", "line\nbreak"),
        ("3", "mug-2", "mug", "size", '{"4"', ""),
        ("4", "mug-3", "mug", "colour", '[["red"]]', ""),
        ("5", "mug-4", "mug", "colour", "", ""),
        ("6", "mug-5", "mug", "colour", '{"selected": "left"}', ""),
        ("7", "mug-5", "mug", "decor", "hearts; dots", ""),
        ("",) * 6,
    ]
    (shop.folder / "export.csv").write_text("\ufeff" + in_csv(rows, separator))
    found = import_labels(shop.folder / "export.csv", shop.config, shop.output)
    assert shop.values() == {
        "mug-0/decor": "dots; hearts", "mug-1/size": "[3]", "mug-2/size": '{"4"', "mug-3/colour": "red",
        "mug-5/decor": "dots; hearts",
    }  # fmt: skip
    assert found.skipped == 1
    assert [problem.where.partition(" ")[2] for problem in found.unread] == ["(task 6, listing mug-5)"]

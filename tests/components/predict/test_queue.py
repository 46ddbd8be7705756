"""What people are asked about: uncertain answers that train, and a fair sample of gold, drawn whatever its answers."""

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from attrloop.components.annotate.plan import make_plan
from attrloop.components.catalogue.records import Label, Listing, to_frame
from attrloop.components.gold.register import register_of, remembered_splits
from attrloop.components.gold.split import drawn_split, rank
from attrloop.components.gold.splits import splits_of
from attrloop.components.predict.queue import select
from attrloop.components.predict.votes import CataloguePrediction
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, ModelConfig, ReviewConfig, RunConfig
from attrloop.components.run.workspace import Workspace
from tests.photographs import photograph
from tests.splits import write_splits

ATTRIBUTES = {"mug": ("lid", "size"), "lamp": ("shape",)}
IDS = [f"{vertical}-{k}" for vertical in ATTRIBUTES for k in range(200)]


def confidence(listing: str) -> float:
    return int(listing.split("-")[1]) / 200


def gold_of(vertical: str) -> list[str]:
    return sorted((key for key in IDS if key.startswith(vertical) and drawn_split(key) != "train"), key=rank)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Predictions of 200 mugs and 200 lamps in shards of seven; the larger a listing's number, the surer they are."""
    values = {name: {"values": ["yes", "no"]} for names in ATTRIBUTES.values() for name in names}
    verticals = {
        vertical: {"attributes": {name: values[name] for name in names}} for vertical, names in ATTRIBUTES.items()
    }
    (tmp_path / "schema.yaml").write_text(json.dumps({"verticals": verticals}))
    rows = [Listing(id=key, vertical=key.split("-")[0], images=("a.png",)) for key in IDS]
    (tmp_path / "listings.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    (tmp_path / "labels.jsonl").write_text("")
    data = DataConfig(
        catalogue_schema=str(tmp_path / "schema.yaml"),
        listings=str(tmp_path / "listings.jsonl"),
        labels=str(tmp_path / "labels.jsonl"),
    )
    ws = Workspace.create(str(tmp_path / "run"), RunConfig(data=data, model=ModelConfig(base="none")))
    write_splits(ws, {key: drawn_split(key) for key in IDS})
    stage = Artifact(ws.store, "predictions", {})
    names = [f"shard-{number:05d}.parquet" for number in range(len(IDS) // 7 + 1)]
    for number, name in enumerate(names):
        made = [
            CataloguePrediction(
                listing=row.id,
                vertical=row.vertical,
                attribute=attribute,
                answer="yes",
                confidence=confidence(row.id),
                chains=10,
                rationale="I see it.",
            )
            for row in rows[7 * number : 7 * number + 7]
            for attribute in ATTRIBUTES[row.vertical]
        ]
        to_frame(made, CataloguePrediction).write_parquet(stage.folder / name)
    stage.finish("predictions", {}, names)
    return ws


def drawing(ws: Workspace, fraction: float) -> Workspace:
    return Workspace(ws.store, ws.config.model_copy(update={"review": ReviewConfig(drawn=fraction)}))


def write_labels(ws: Workspace, *labels: Label) -> None:
    Path(ws.config.data.labels).write_text("".join(row.model_dump_json(exclude_none=True) + "\n" for row in labels))


def listings_of(queue: pl.DataFrame, part: str, vertical: str) -> list[str]:
    rows = queue.filter(pl.col("part") == part, pl.col("vertical") == vertical)
    return list(dict.fromkeys(rows["listing"].to_list()))


def test_what_is_uncertain_is_of_split_train_and_what_is_drawn_is_gold_by_rank(ws: Workspace) -> None:
    queue = select(ws, 8)
    for vertical, names in ATTRIBUTES.items():
        train = [key for key in IDS if key.startswith(vertical) and drawn_split(key) == "train"]
        assert listings_of(queue, "uncertain", vertical) == train[:8], "the least certain first"
        assert listings_of(queue, "drawn", vertical) == gold_of(vertical)[:2], "a fifth of ten"
        drawn = queue.filter(pl.col("part") == "drawn", pl.col("vertical") == vertical)
        assert Counter(drawn["attribute"].to_list()) == dict.fromkeys(names, 2), "all attributes of a listing"
    parts = queue["part"].to_list()
    assert parts == sorted(parts, reverse=True), "the uncertain ones first"
    assert select(ws, 0).is_empty()


def test_no_certainty_decides_what_is_drawn(ws: Workspace) -> None:
    queue = select(drawing(ws, 0.8), 15)
    drawn = [key for vertical in ATTRIBUTES for key in listings_of(queue, "drawn", vertical)]
    assert len(drawn) == sum(min(60, len(gold_of(vertical))) for vertical in ATTRIBUTES)
    mean = sum(map(confidence, drawn)) / len(drawn)
    assert 0.4 < mean < 0.6, "as in the whole catalogue"
    assert {drawn_split(key) for key in drawn} == {"validation", "test"}


@pytest.mark.parametrize(("fraction", "drawn"), [(0.0, 0), (0.01, 1), (0.2, 3), (0.5, 10), (0.9, None)])
def test_the_fraction_of_the_listings_that_is_drawn_is_a_setting(
    ws: Workspace, fraction: float, drawn: int | None
) -> None:
    queue = select(drawing(ws, fraction), 10)
    assert len(listings_of(queue, "uncertain", "lamp")) == 10
    assert listings_of(queue, "drawn", "lamp") == gold_of("lamp")[:drawn]


def test_what_is_labelled_is_not_asked_again_and_the_next_listing_by_rank_is_drawn(ws: Workspace) -> None:
    first, second, third = gold_of("mug")[:3]
    uncertain = listings_of(select(ws, 4), "uncertain", "mug")[0]
    write_labels(
        ws,
        Label(listing=first, attribute="lid", value="yes"),
        Label(listing=first, attribute="size", value="yes"),
        Label(listing=second, attribute="lid", value="yes", source="review"),
        Label(listing=third, attribute="lid", value="yes"),
        Label(listing=uncertain, attribute="lid", value="yes", source="review"),
    )
    queue = select(drawing(ws, 0.5), 2)
    drawn = queue.filter(pl.col("part") == "drawn", pl.col("vertical") == "mug").select("listing", "attribute").rows()
    assert drawn[:3] == [(second, "lid"), (second, "size"), (third, "size")], "a label of a review is no gold"
    assert (uncertain, "lid") not in queue.select("listing", "attribute").rows()
    assert (uncertain, "size") in queue.select("listing", "attribute").rows()


def test_gold_that_shares_photographs_with_another_split_is_not_drawn(ws: Workspace) -> None:
    first, second = gold_of("lamp")[:2]
    learnt = next(key for key in IDS if key.startswith("lamp") and drawn_split(key) == "train")
    path = Path(ws.config.data.listings)
    photograph(1).save(path.with_name("same.png"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    shared = [row | ({"images": ["same.png"]} if row["id"] in (first, learnt) else {}) for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in shared))
    assert listings_of(select(ws, 2), "drawn", "lamp") == [second]


def test_listings_with_a_twin_are_as_likely_to_be_drawn_as_others(ws: Workspace, tmp_path: Path) -> None:
    lamps = [key for key in IDS if key.startswith("lamp")]
    path = Path(ws.config.data.listings)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, twins in enumerate(zip(lamps[::2], lamps[1::2], strict=True)):
        photograph(number, (48, 36)).save(path.with_name(f"{number}.png"))
        rows = [row | ({"images": [f"{number}.png"]} if row["id"] in twins else {}) for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ws.config.data.model_copy(update={"splits": str(tmp_path / "new")})  # of which no run remembers anything
    new = Workspace(ws.store, ws.config.model_copy(update={"data": data}))
    drawn = listings_of(select(drawing(new, 0.9), 20), "drawn", "lamp")
    decided = remembered_splits(register_of(new.config, new.store.root).listings.rows())
    assert drawn == sorted((key for key in lamps if decided[key] != "train"), key=rank)
    assert 0.2 < len(drawn) / len(lamps) < 0.4
    assert sum(drawn_split(key) == "train" for key in drawn) > len(drawn) / 2, "as their ids alone would have it"


def test_a_split_that_the_labels_state_is_kept_also_for_attributes_without_a_label(
    ws: Workspace, tmp_path: Path
) -> None:
    train = [key for key in IDS if key.startswith("mug") and drawn_split(key) == "train"]
    first, second = sorted(gold_of("mug"), key=confidence)[:2]
    write_labels(
        ws,
        Label(listing=train[0], attribute="lid", value="yes", split="test"),
        Label(listing=first, attribute="lid", value="yes", split="train"),
    )
    data = ws.config.data.model_copy(update={"splits": str(tmp_path / "new")})  # of which no run remembers anything
    new = Workspace(ws.store, ws.config.model_copy(update={"data": data}))
    queue = select(drawing(new, 0.9), 60)
    parts = {row["listing"]: row["part"] for row in queue.iter_rows(named=True)}
    assert parts[train[0]] == "drawn" and parts[first] == "uncertain"
    assert parts[train[1]] == "uncertain" and parts[second] == "drawn"


def test_what_comes_back_of_a_queue_becomes_gold_only_where_it_was_drawn(ws: Workspace) -> None:
    queue = select(ws, 8)
    made = [
        Label(
            listing=row["listing"],
            attribute=row["attribute"],
            value="yes",
            source="human" if row["part"] == "drawn" else "review",
        )
        for row in queue.iter_rows(named=True)
    ]
    plan = make_plan(ws.config, ws.schema, ws.listings, made, splits_of(ws))
    gold = {label.listing for label in plan.given if label.split != "train"}
    assert gold == {key for vertical in ATTRIBUTES for key in gold_of(vertical)[:2]} and not plan.reviewed
    assert {label.source for label in plan.given if label.split == "train"} == {"review"}

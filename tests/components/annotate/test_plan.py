"""Who labels what: quotas by (vertical, attribute, split), and what may change around them without moving a listing."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from attrloop.components.annotate.plan import Cell, Plan, make_plan, shortfalls, tally
from attrloop.components.annotate.turns import Ask, Turns
from attrloop.components.catalogue.records import Label, Listing
from attrloop.components.catalogue.schema import Schema
from attrloop.components.gold.decide import Splits, decide
from attrloop.components.gold.split import drawn_split, rank
from attrloop.components.run.config import RunConfig

ATTRIBUTES = {"mug": ("lid", "size", "decor"), "lamp": ("shape",)}
SCHEMA = Schema.model_validate(
    {
        "verticals": {
            vertical: {"attributes": {name: {"values": ["yes", "no"]} for name in names}}
            for vertical, names in ATTRIBUTES.items()
        }
    }
)


def catalogue(count: int, source: str = "") -> dict[str, Listing]:
    ids = [(f"{source}{vertical}-{k}", vertical) for k in range(count) for vertical in ATTRIBUTES]
    return {key: Listing(id=key, vertical=vertical, images=("a.png",)) for key, vertical in ids}


def config(train: int = 10, validation: int = 5, test: int = 5, **annotate: Any) -> RunConfig:
    counts = {"train_per_vertical": train, "validation_per_vertical": validation, "test_per_vertical": test}
    return RunConfig.model_validate(
        {
            "data": {"catalogue_schema": "s", "listings": "l"},
            "model": {"base": "b"},
            "annotate": counts | annotate,
        }
    )


def labels_of(listings: Iterable[str], *attributes: str, **values: Any) -> list[Label]:
    return [
        Label.model_validate({"listing": key, "attribute": name, "value": "yes"} | values)
        for key in listings
        for name in attributes
    ]


def plan_of(
    listings: dict[str, Listing], labels: list[Label], splits: Splits | None = None, **counts: int
) -> tuple[Plan, list[Ask]]:
    """The plan, and what is asked first."""
    stated = {label.listing: label.split for label in labels if label.split}
    plan = make_plan(config(**counts), SCHEMA, listings, labels, splits or decide(listings, stated))
    return plan, Turns(plan).round()


def labelled(plan: Plan, asks: list[Ask]) -> dict[tuple[str, str], str]:
    """The split of every (listing, attribute) that gets a label if all replies are usable."""
    found: dict[tuple[str, str], str] = {(x.listing, x.attribute): x.split or "" for x in plan.given}
    return found | {(ask.listing.id, name): ask.split for ask in asks for name in ask.attributes}


def by_cell(plan: Plan, asks: list[Ask], listings: dict[str, Listing]) -> Counter[Cell]:
    found = tally(plan.given, listings)
    found.update(Cell(ask.listing.vertical, name, ask.split) for ask in asks for name in ask.attributes)
    return found


def mugs(listings: dict[str, Listing], split: str) -> list[str]:
    """The mugs of a split, in the order in which they are taken."""
    return sorted((key for key in listings if "mug" in key and drawn_split(key) == split), key=rank)


def test_every_attribute_gets_its_count_though_given_labels_hold_one_of_three() -> None:
    listings = catalogue(100)
    some = [mug for split in ("train", "validation", "test") for mug in mugs(listings, split)[:20]]
    plan, asks = plan_of(listings, labels_of(some, "lid"))
    wanted = {"train": 10, "validation": 5, "test": 5}
    assert by_cell(plan, asks, listings) == {
        Cell(vertical, name, split): count  # type: ignore[arg-type]
        for vertical, names in ATTRIBUTES.items()
        for name in names
        for split, count in wanted.items()
    }
    assert {ask.attributes for ask in asks if ask.listing.vertical == "mug"} == {("size", "decor")}
    assert {ask.listing.id for ask in asks if ask.listing.vertical == "mug"} == {
        mug for split, count in wanted.items() for mug in mugs(listings, split)[:count]
    }, "the listings with a label come first"


def test_the_listings_with_some_labels_are_completed_before_new_ones_are_asked_about() -> None:
    listings = catalogue(100)
    train = mugs(listings, "train")
    plan, asks = plan_of(listings, labels_of(train[-3:], "lid") + labels_of(train[-1:], "size"))
    asked = {ask.listing.id: ask.attributes for ask in asks if ask.split == "train" and ask.listing.vertical == "mug"}
    partly = {train[-3]: ("size", "decor"), train[-2]: ("size", "decor"), train[-1]: ("decor",)}
    assert asked == partly | {mug: ("lid", "size", "decor") for mug in train[:7]}
    assert plan.known[train[-1]] == {"lid", "size"}


@pytest.mark.parametrize("partly", [0, 12])
def test_what_a_small_count_takes_is_taken_for_a_larger_one(partly: int) -> None:
    listings = catalogue(120)
    given = labels_of([key for k, key in enumerate(listings) if "mug" in key and k < 2 * partly], "lid")
    given += labels_of(list(listings)[100:104:2], "decor", "size", split="test")
    before: dict[tuple[str, str], str] = {}
    for size in (1, 2, 5, 9, 14):
        found = labelled(*plan_of(listings, given, train=size, validation=size, test=size))
        assert before.items() <= found.items() and len(before) < len(found)
        before = found


def test_labels_that_came_in_since_move_nobody() -> None:
    listings = catalogue(100)
    known = list(listings)[:90:2]  # 45 mugs
    more = [*known, *list(listings)[90:96:2]]
    before, after = (
        labelled(*plan_of(listings, labels_of(keys, "lid", "size", "decor"), train=40, validation=20, test=20))
        for keys in (known, more)
    )
    both = {key: (before[key], after[key]) for key in before.keys() & after.keys()}
    assert len({key[0] for key in both}) >= 45 and all(old == new for old, new in both.values())
    assert {key[0] for key in after if key[0] in more} == set(more)


def test_listings_that_join_or_leave_move_nobody_and_another_source_changes_nothing() -> None:
    one, other = catalogue(60), catalogue(60, "shop2-")
    alone, together = labelled(*plan_of(one, [])), labelled(*plan_of(one | other, []))
    fewer = labelled(*plan_of({key: row for k, (key, row) in enumerate(one.items()) if k % 9}, []))
    for found in (together, fewer):
        assert all(found[key] == alone[key] for key in found.keys() & alone.keys())
        assert all(drawn_split(key[0]) == split for key, split in found.items())
    assert len({key for key in together if key[0].startswith("shop2-")}) > len(ATTRIBUTES)


def test_a_stated_split_is_kept_beyond_the_counts_and_counts_for_them() -> None:
    listings = catalogue(40)
    mug = mugs(listings, "train")
    plan, asks = plan_of(listings, labels_of(mug[:8], "lid", split="test"), train=2, validation=0, test=5)
    assert {label.split for label in plan.given} == {"test"} and len(plan.given) == 8
    tests = [ask for ask in asks if ask.split == "test" and ask.listing.vertical == "mug"]
    assert [ask.attributes for ask in tests] == [("size", "decor")] * 5, "no new listing is needed for the lid"
    assert not [ask for ask in asks if ask.split == "validation"]


def test_labels_beyond_the_counts_are_surplus_only_when_all_of_a_listing_are() -> None:
    listings = catalogue(60)
    train = mugs(listings, "train")[:6]
    plan, _ = plan_of(listings, labels_of(train, "lid") + labels_of(train[5:], "size"), train=3)
    assert plan.surplus == 2, "of the last, the size is used"
    assert {(label.listing, label.attribute) for label in plan.given} == {
        *((mug, "lid") for mug in train[:3]),
        (train[5], "size"),
    }


def test_gold_that_shares_a_photograph_with_another_split_fills_no_place() -> None:
    listings = catalogue(40)
    tests = mugs(listings, "test")
    splits = decide(listings, {})
    mixed = Splits(splits.of, splits.group, {tests[0]: "x", tests[1]: "y"})
    plan, asks = plan_of(listings, labels_of(tests[:1], "lid"), mixed, test=3)
    assert plan.mixed == (tests[0],) and [label.listing for label in plan.given] == tests[:1], "left out later"
    assert not tally(plan.given, listings, plan.mixed)
    assert [ask.listing.id for ask in asks if ask.listing.vertical == "mug" and ask.split == "test"] == tests[2:5]


def test_splits_grow_in_proportion_and_verticals_take_turns_whenever_a_budget_ends() -> None:
    listings = catalogue(300)
    _, asks = plan_of(listings, [], train=10, validation=20, test=20)
    assert len(asks) == 100
    for end in range(1, len(asks)):
        per = Counter((ask.listing.vertical, ask.split) for ask in asks[:end])
        mug, lamp = (sum(per[vertical, split] for split in ("train", "validation", "test")) for vertical in ATTRIBUTES)
        assert abs(mug - lamp) <= 1
        if end >= 6:
            fractions = [
                per[vertical, split] / count  # type: ignore[index]
                for vertical in ATTRIBUTES
                for split, count in (("train", 10), ("validation", 20), ("test", 20))
            ]
            assert min(fractions) > 0 and max(fractions) - min(fractions) <= 0.1 + 1e-9


def test_in_place_of_a_listing_without_an_answer_comes_the_next_of_its_split_for_these_attributes() -> None:
    listings = catalogue(60)
    plan, asks = plan_of(listings, [], train=2)
    turns = Turns(plan)
    assert turns.round() == asks
    first = next(ask for ask in asks if ask.split == "test" and ask.listing.vertical == "mug")
    turns.again(first, ["size"])
    (instead,) = turns.round()
    assert (instead.listing.id, instead.attributes) == (mugs(listings, "test")[5], ("size",))
    assert turns.round() == []


def test_a_split_that_has_too_few_listings_is_short_by_number() -> None:
    listings = catalogue(20)
    plan, asks = plan_of(listings, [], train=5, validation=9, test=1)
    (mug, *_, lamp) = shortfalls(
        config(train=5, validation=9, test=1).annotate, SCHEMA, plan, by_cell(plan, asks, listings)
    )
    there = len(mugs(listings, "validation"))
    assert (mug.vertical, mug.attribute, mug.split) == ("mug", "lid", "validation")
    assert (mug.wanted, mug.labels, mug.listings) == (9, there, there) and lamp.vertical == "lamp"
    assert str(mug) == f"mug/lid has {there} of 9 validation labels ({there} listings are in this split)"

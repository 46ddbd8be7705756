"""Which split a listing gets, and which gold may not be judged by."""

import pytest

from attrloop.components.catalogue.records import Split
from attrloop.components.gold.decide import decide
from attrloop.components.gold.split import drawn_split, rank

KEY = next(f"group-{k}" for k in range(100) if drawn_split(f"group-{k}") == "test")


def test_a_split_depends_on_the_listing_alone():
    ids = [f"mug-{k}" for k in range(500)]
    alone = {listing: decide([listing]).of[listing] for listing in ids}
    assert dict(decide(ids).of) == alone
    assert {**decide(["new", *reversed(ids)]).of} == {**alone, "new": drawn_split("new")}
    assert alone["mug-0"] == drawn_split("mug-0")


def test_a_group_has_one_split_drawn_from_its_key():
    splits = decide(["a", "b", "c"], groups={"a": KEY, "b": KEY})
    assert (splits.of["a"], splits.of["b"]) == ("test", "test")
    assert splits.group == {"a": KEY, "b": KEY, "c": "c"}


def test_a_stated_split_is_that_of_the_listing_and_of_its_group():
    splits = decide(["a", "b"], stated={"a": "validation"}, groups={"a": KEY, "b": KEY})
    assert dict(splits.of) == {"a": "validation", "b": "validation"}


def test_a_remembered_split_stays_whatever_the_key_says_now():
    assert decide(["a"], remembered={"a": "train"}, groups={"a": KEY}).of["a"] == "train"


def test_a_new_listing_joins_a_member_that_is_no_longer_in_the_catalogue():
    assert decide(["new"], remembered={"gone": "train"}, groups={"gone": KEY, "new": KEY}).of["new"] == "train"


@pytest.mark.parametrize(
    ("splits", "joins", "mixed"),
    [
        (("train", "test"), "train", {"b": "a"}),
        (("train", "validation"), "train", {"b": "a"}),
        (("validation", "test"), "validation", {"b": "a"}),
        (("test", "test"), "test", {}),
    ],
)
def test_who_joins_two_groups_changes_nobody_and_spoiled_gold_is_named(splits, joins, mixed):
    remembered = dict(zip("ab", splits, strict=True))
    found = decide(["a", "b", "new"], remembered=remembered, groups=dict.fromkeys(("a", "b", "new"), KEY))
    assert dict(found.of) == {**remembered, "new": joins}
    assert dict(found.mixed) == mixed


def test_stated_splits_of_a_group_that_differ_leave_the_gold_mixed():
    found = decide(["a", "b"], stated={"a": "train", "b": "test"}, groups=dict.fromkeys("ab", KEY))
    assert (dict(found.of), dict(found.mixed)) == ({"a": "train", "b": "test"}, {"b": "a"})


def test_gold_is_mixed_by_listings_of_this_catalogue_only_and_heals_when_they_go():
    remembered: dict[str, Split] = {"gone": "train", "left": "test"}
    groups = dict.fromkeys(remembered, KEY)
    assert dict(decide(["gone", "left"], remembered=remembered, groups=groups).mixed) == {"left": "gone"}
    assert not decide(["left"], remembered=remembered, groups=groups).mixed


@pytest.mark.parametrize(
    ("remembered", "stated", "told"),
    [
        ("train", "test", True),
        ("train", "validation", True),
        ("validation", "test", True),
        ("test", "train", True),
        ("test", "test", False),
    ],
)
def test_a_stated_split_wins_over_another_remembered_one_which_is_told(remembered, stated, told):
    found = decide(["a"], stated={"a": stated}, remembered={"a": remembered})
    assert (found.of["a"], dict(found.contradicted)) == (stated, {"a": remembered} if told else {})


def test_ranks_are_in_the_unit_interval_and_differ():
    ranks = [rank(f"mug-{k}") for k in range(1000)]
    assert len(set(ranks)) == 1000 and min(ranks) >= 0 and max(ranks) < 1

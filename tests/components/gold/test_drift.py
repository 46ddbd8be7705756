"""What happens to a catalogue between two runs, and that no listing changes its split for it."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare, spearmanr

from attrloop.components.catalogue.records import SPLITS, Split
from attrloop.components.gold.split import drawn_split, rank
from attrloop.components.gold.splits import make_splits
from tests.components.gold.shop import Shop

MANY = 60


def labels(shop: Shop, count: int) -> None:
    ids = sorted(shop.listings)[:count]
    shop.labels = [{"listing": id_, "attribute": "lid", "value": "yes", "source": "api"} for id_ in ids]


def nothing(shop: Shop) -> None:
    """Nothing changes."""


def new_listings(shop: Shop) -> None:
    shop.add(*(f"a-new-{number}" for number in range(10)))
    shop.listings = dict(sorted(shop.listings.items()))


def sold_out(shop: Shop) -> None:
    for listing in list(shop.listings)[::7]:
        del shop.listings[listing]
    shop.labels = [label for label in shop.labels if label["listing"] in shop.listings]


def labels_came_in(shop: Shop) -> None:
    labels(shop, 48)


def unusable_replies(shop: Shop) -> None:
    labels(shop, 45)
    shop.labels = shop.labels[::3]


def labels_from_a_file(shop: Shop) -> None:
    for label in shop.labels:
        label["source"] = "human"


def another_order(shop: Shop) -> None:
    shop.listings = dict(reversed(shop.listings.items()))


def a_folder_of_another_name(shop: Shop) -> None:
    shop.folder = shop.folder.rename(shop.folder.with_name("renamed"))


def a_copy_joins_a_group(shop: Shop) -> None:
    for number in range(12):
        shop.add(f"joins-{number}", pictures=[shop.picture(2_000 + number, "jpeg-70")])


def copies_join_lone_listings(shop: Shop) -> None:
    for number in range(30):
        shop.add(f"twin-{number}", pictures=[shop.picture(1_000_000 + number, "webp")])


def a_listing_joins_two_groups(shop: Shop) -> None:
    for number in range(12):
        shop.add(f"both-{number}", pictures=[shop.picture(2_000 + number), shop.picture(2_000 + (number + 1) % 12)])


def a_photograph_is_lost(shop: Shop) -> None:
    for number in range(12):
        shop.listings[f"variant-{number}-0"] = shop.listings[f"variant-{number}-0"][1:]


def groups_dissolve(shop: Shop) -> None:
    for number in range(12):
        for variant in range(1, 4):
            del shop.listings[f"variant-{number}-{variant}"]


def photographs_are_replaced(shop: Shop) -> None:
    for listing in list(shop.listings)[:20]:
        shop.listings[listing] = [shop.picture(3_000_000 + int(listing.rpartition("-")[2]))]


CHANGES: dict[str, tuple[Callable[[Shop], None], dict[str, Any]]] = {
    "the same again": (nothing, {}),
    "new listings": (new_listings, {}),
    "sold-out listings": (sold_out, {}),
    "other counts": (nothing, {"annotate": {"train_per_vertical": 30, "test_per_vertical": 1}}),
    "unusable replies": (unusable_replies, {}),
    "labels that came in": (labels_came_in, {}),
    "labels from a file": (labels_from_a_file, {}),
    "another seed": (nothing, {"seed": 7}),
    "another order": (another_order, {}),
    "Parquet in another folder": (a_folder_of_another_name, {"kind": "parquet"}),
    "a copy joins a group": (a_copy_joins_a_group, {}),
    "copies join lone listings": (copies_join_lone_listings, {}),
    "a listing joins two groups": (a_listing_joins_two_groups, {}),
    "a photograph is lost": (a_photograph_is_lost, {}),
    "groups dissolve": (groups_dissolve, {}),
    "photographs are replaced": (photographs_are_replaced, {}),
}
# Without the register, a listing's split follows from its group: who joins or leaves one may change.
MAY_CHANGE = {
    "a copy joins a group",
    "copies join lone listings",
    "a listing joins two groups",
    "groups dissolve",
}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """60 lone listings, and twelve groups of four variants that share a photograph; 45 listings have a label."""
    shop = Shop(tmp_path / "shop")
    shop.add(*(f"mug-{number}" for number in range(MANY)))
    for number in range(12):
        for variant in range(4):
            own = [shop.picture(1_500_000 + 4 * number + variant)] if variant == 0 else []
            shop.add(f"variant-{number}-{variant}", pictures=[*own, shop.picture(2_000 + number)])
    labels(shop, 45)
    return shop


def changed(before: Mapping[str, Split], after: Mapping[str, Split]) -> set[str]:
    return {listing for listing in before.keys() & after.keys() if before[listing] != after[listing]}


@pytest.mark.parametrize("change", CHANGES)
def test_no_listing_changes_its_split(shop, tmp_path, change):
    before = make_splits(shop.run(tmp_path / "runs")).of
    alter, sections = CHANGES[change]
    alter(shop)
    after = make_splits(shop.run(tmp_path / "runs", "later", **sections)).of
    assert changed(before, after) == set()


@pytest.mark.parametrize("change", CHANGES)
def test_without_the_register_only_listings_whose_group_changes_may_change(shop, tmp_path, change):
    before = make_splits(shop.run(tmp_path / "runs"))
    alter, sections = CHANGES[change]
    alter(shop)
    after = make_splits(shop.run(tmp_path / "other-runs", **sections))
    moved = changed(before.of, after.of)
    assert all(before.group[listing] != after.group[listing] for listing in moved)
    assert not moved or change in MAY_CHANGE


def test_who_joins_two_groups_of_different_splits_spoils_gold_that_is_named(shop, tmp_path):
    before = make_splits(shop.run(tmp_path / "runs"))
    assert not before.mixed
    a_listing_joins_two_groups(shop)
    after = make_splits(shop.run(tmp_path / "runs", "later"))
    assert changed(before.of, after.of) == set()
    gold = {listing for listing in after.of if listing.startswith("variant") and after.of[listing] != "train"}
    assert gold and set(after.mixed) == gold
    assert all(after.of[other] == "train" for other in after.mixed.values())


def test_two_runs_at_once_agree(shop, tmp_path):
    a_listing_joins_two_groups(shop)
    workspaces = []
    for number in range(4):  # each with listings that the others lack
        listings = dict(shop.listings)
        shop.add(f"only-{number}", pictures=[shop.picture(2_000 + number, "webp")])
        workspaces.append(shop.run(tmp_path / "runs", f"run-{number}"))
        workspaces[-1].listings  # noqa: B018 - read now, before the file is written for the next
        shop.listings = listings
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(make_splits, workspaces))
    for splits in found[1:]:
        assert changed(found[0].of, splits.of) == set()
    later = make_splits(shop.run(tmp_path / "runs", "later")).of
    assert all(changed(splits.of, later) == set() for splits in found)


KEYS = [f"listing-{number}" for number in range(100_000)]


def test_the_splits_are_as_large_as_they_should_be():
    drawn = [drawn_split(key) for key in KEYS]
    found = [drawn.count(split) for split in SPLITS]
    assert chisquare(found, [70_000, 15_000, 15_000]).pvalue > 0.01


def test_ranks_are_uniform_and_tell_nothing_of_splits():
    ranks = np.array([rank(key) for key in KEYS])
    drawn = np.array([SPLITS.index(drawn_split(key)) for key in KEYS])
    assert chisquare(np.histogram(ranks, 100, (0, 1))[0]).pvalue > 0.01
    assert abs(spearmanr(ranks, drawn).statistic) < 0.01

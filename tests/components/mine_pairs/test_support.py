"""Calibrated votes, through mining: what the model is known to confuse is read as evidence."""

import random
from pathlib import Path

import polars as pl
import pytest

from attrloop.components.catalogue.records import Chain, Label, to_frame
from attrloop.components.catalogue.vote_kinds import with_kind
from attrloop.components.mine_pairs.arms import rules_of
from attrloop.components.mine_pairs.mine import mine
from attrloop.components.mine_pairs.support import habits
from attrloop.components.mine_pairs.votes import LABEL_COLUMNS, Known, vote
from attrloop.components.run.config import MineConfig
from tests.bench.chains import STAGE, finish, workspace
from tests.components.mine_pairs.samples import EASY, Mined, label, sample


def half_seen(count: int) -> tuple[list[list[Chain]], list[Label]]:
    """Labelled samples of a model that calls half of the coral things beige, and nothing that is beige coral."""
    coral, beige = [f"c{k}" for k in range(count)], [f"b{k}" for k in range(count)]
    labels = [label(name, "coral", "validation") for name in coral] + [
        label(name, "beige", "validation") for name in beige
    ]
    return [sample(name, "bbcc bbcc") for name in coral] + [sample(name, "bbbb bbbb") for name in beige], labels


def test_a_calibrated_vote_reads_what_the_model_is_known_to_confuse(mined: Mined) -> None:
    gold, labels = half_seen(8)
    pairs, _ = mined([*gold, sample("u", "bbcc bbbc")], labels, calibrate=True)
    (row,) = pairs.iter_rows(named=True)
    assert (row["chosen_answer"], row["rejected_answer"]) == ("coral", "beige")
    assert row["weight"] == pytest.approx(2 * row["agreement"] - 1)


def test_more_labelled_samples_make_a_calibrated_vote_surer(
    mined: Mined, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sure = []
    for count in (4, 16):
        gold, labels = half_seen(count)
        ws = workspace(tmp_path_factory.mktemp("count"), **(EASY | {"calibrate": True}))
        finish(ws, [to_frame([row for rows in [*gold, sample("u", "bbcc bbbc")] for row in rows], Chain)], labels)
        sure.append(pl.read_parquet(Path(ws.store.root, mine(ws.store.root, STAGE)))["agreement"].item())
    assert 0.5 < sure[0] < sure[1] < 1


def test_a_view_is_one_observation_however_many_chains_saw_it(mined: Mined) -> None:
    gold, labels = half_seen(8)
    pairs, _ = mined(
        [*gold, sample("one", "bbcc"), sample("long", "bbbbcccc"), sample("two", "bbcc bbcc")], labels, calibrate=True
    )
    support = dict(pairs.select("listing", "agreement").iter_rows())
    assert support["one"] == support["long"] < support["two"]


def test_a_value_that_no_labelled_listing_has_wins_where_nearly_all_chains_say_it(mined: Mined) -> None:
    gold, labels = half_seen(8)
    pairs, _ = mined([*gold, sample("u", "dddd dddb")], labels, calibrate=True)
    (row,) = pairs.iter_rows(named=True)
    assert (row["chosen_answer"], row["rejected_answer"]) == ("denim", "beige")


def test_without_labels_a_calibrated_vote_is_a_plain_one(mined: Mined) -> None:
    pairs, _ = mined([sample("x", "aaab")], calibrate=True)
    assert (pairs["agreement"].item(), pairs["weight"].item()) == (0.75, 0.5)


def test_off_list_answers_and_abstentions_lower_a_calibrated_vote(mined: Mined) -> None:
    gold, labels = half_seen(8)
    pairs, report = mined(
        [*gold, sample("whole", "cccb cccb"), sample("half", "ccb- ccb?"), sample("rest", "cb-- cb??")],
        labels,
        calibrate=True,
    )
    support = dict(pairs.select("listing", "agreement").iter_rows())
    assert set(support) == {"whole", "half"} and support["half"] == pytest.approx(0.75 * support["whole"], abs=0.03)
    assert report["samples"] == {"below threshold": 1, "contrast": 2}


def test_the_consensus_of_a_labelled_sample_is_what_it_would_be_without_its_label() -> None:
    """Otherwise the gate would judge answers by a table that was made of them."""
    rng = random.Random(0)
    gold = {f"x{k}": rng.choice(["amber", "beige", "coral", "denim"]) for k in range(12)}
    chains = to_frame(
        [
            row
            for name in gold
            for row in sample(name, " ".join("".join(rng.choice("abcd-?") for _ in range(2)) for _ in range(3)))
        ],
        Chain,
    )
    labels = pl.DataFrame(
        [(name, "shade", value, "") for name, value in gold.items()], schema=LABEL_COLUMNS, orient="row"
    )

    def voted(known: pl.DataFrame) -> pl.DataFrame:
        splits, truth = (
            pl.DataFrame(schema=dict.fromkeys(names, pl.String))
            for names in (("listing", "split"), ("listing", "attribute", "target"))
        )
        config = MineConfig()
        return vote(chains, Known(known, splits, truth, habits(with_kind(chains), known)), config, rules_of(config), 0)[
            1
        ]

    found = voted(labels)
    for name in gold:
        without = voted(labels.filter(pl.col("listing") != name))
        assert found.filter(listing=name).select("winner", "agreement").row(0) == without.filter(listing=name).select(
            "winner", "agreement"
        ).row(0), name

"""Mining through its public function, on hand-written samples whose outcome can be worked out on paper."""

import json
from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from attrloop.components.catalogue.records import Chain, Pair, polars_schema, to_frame
from attrloop.components.errors import InputError
from attrloop.components.gold.left_out import LeftOut
from attrloop.components.mine_pairs.arms import ARMS
from attrloop.components.mine_pairs.mine import mine
from attrloop.components.run.config import MineConfig
from attrloop.components.run.workspace import Workspace
from tests.bench.chains import STAGE, finish, workspace
from tests.components.mine_pairs.samples import EASY, Mined, label, sample
from tests.disk import full_disk


def test_the_majority_is_preferred_over_the_strongest_listed_rival_on_the_view_that_misleads_most(mined: Mined) -> None:
    pairs, _ = mined([sample("x", "aab aa- abb aac")])
    (row,) = pairs.iter_rows(named=True)
    assert (row["chosen_answer"], row["rejected_answer"], row["view"], row["source"]) == (
        "amber",
        "beige",
        2,
        "consensus",
    )
    assert row["chosen"].startswith("view 2 ") and row["rejected"].startswith("view 2 ")
    assert row["weight"] == pytest.approx((7 - 3) / 12) and row["agreement"] == pytest.approx(7 / 12)


def test_rows_have_the_columns_of_a_pair_and_are_valid_ones(mined: Mined) -> None:
    pairs, _ = mined([sample("x", "aaab"), sample("y", "aaaa"), sample("z", "aa--")])
    assert dict(pairs.schema) == polars_schema(Pair)
    assert {Pair.model_validate(row).source for row in pairs.iter_rows(named=True)} == {"consensus", "anchor"}


def test_off_list_answers_never_win_but_count_in_the_denominator(mined: Mined) -> None:
    pairs, report = mined([sample("x", "aa---"), sample("y", "aaa--"), sample("z", "-----")])
    assert report["samples"] == {"below threshold": 1, "contrast": 1, "no votes": 1}
    (row,) = pairs.iter_rows(named=True)
    assert (row["listing"], row["rejected_answer"], row["weight"]) == ("y", None, pytest.approx(0.6))


def test_abstentions_never_win_never_dissent_and_lower_the_agreement(mined: Mined) -> None:
    pairs, report = mined([sample("x", "aaa?"), sample("y", "???a"), sample("z", "????")])
    assert pairs.is_empty()
    assert report["samples"] == {"abstained": 1, "no votes": 1, "too few votes": 1}


def test_ties_are_dropped(mined: Mined) -> None:
    pairs, report = mined([sample("x", "aabb")], consensus=0.2)
    assert pairs.is_empty() and report["samples"] == {"tie": 1}


def test_the_threshold_holds_for_fractions_without_an_exact_binary_form(mined: Mined) -> None:
    _, report = mined([sample("x", "aaaaaaabbb"), sample("y", "aaaaaabbbb")], consensus=0.7)
    assert report["samples"] == {"below threshold": 1, "contrast": 1}


def test_too_few_votes_give_nothing(mined: Mined) -> None:
    _, report = mined([sample("x", "aaab"), sample("y", "aab-")], min_votes=4)
    assert report["samples"] == {"contrast": 1, "too few votes": 1}


def test_several_pairs_of_a_sample_lie_on_different_views(mined: Mined) -> None:
    pairs, _ = mined([sample("x", "aaab aabb aaab aaaa")], pairs_per_sample=3)
    assert sorted(pairs["view"]) == [0, 1, 2] and pairs["chosen"].n_unique() == 3


def test_labelled_listings_make_no_consensus_rows_and_only_training_ones_make_labelled_pairs(mined: Mined) -> None:
    words = [sample(name, "aaab aaaa abbb") for name in ("train", "validation", "test")] + [
        sample("train-only-shade", "aaab", "finish")
    ]
    labels = [
        label("train", "beige", "train"),
        label("validation", "beige", "validation"),
        label("test", "beige", "test"),
        label("train-only-shade", "beige", "train"),
    ]
    pairs, report = mined(words, labels, gate_accuracy=0)
    assert set(pairs["listing"]) == {"train"} and set(pairs["source"]) == {"label"}
    assert sorted(pairs["view"]) == [0, 1, 2]
    assert (
        set(pairs["chosen"]) == {"plain to see Answer: beige"}
        and set(pairs["rejected_answer"]) == {"amber"}
        and set(pairs["weight"]) == {1.0}
    )
    assert report["rows"] == {"pairs": 0, "anchors": 0, "label_rows": 3}


def test_a_label_is_an_anchor_on_views_that_no_chain_got_wrong(mined: Mined) -> None:
    pairs, report = mined([sample("x", "aaab aaaa")], [label("x", "amber", "train")])
    rows = {row["view"]: (row["source"], row["chosen"], row["rejected_answer"]) for row in pairs.iter_rows(named=True)}
    text = "plain to see Answer: amber"
    assert rows == {0: ("label", text, "beige"), 1: ("label_anchor", text, None)} and report["rows"]["label_rows"] == 2


def test_labelled_rows_can_be_switched_off(mined: Mined) -> None:
    pairs, _ = mined([sample("x", "aaab")], [label("x", "amber", "train")], labelled=False)
    assert pairs.is_empty()


def test_the_gate_closes_an_attribute_of_a_vertical_where_the_consensus_is_wrong(mined: Mined) -> None:
    gold = [sample(f"g{k}", "aaab", vertical="mug") for k in range(4)] + [
        sample(f"h{k}", "aaab", vertical="rug") for k in range(4)
    ]
    labels = [label(f"g{k}", "amber" if k < 1 else "beige", "validation") for k in range(4)] + [
        label(f"h{k}", "amber", "validation") for k in range(4)
    ]
    pairs, report = mined(
        [*gold, sample("u", "aaab", vertical="mug"), sample("v", "aaab", vertical="rug")], labels, gate_min_labels=4
    )
    assert list(pairs["listing"]) == ["v"] and report["dropped_rows"]["gate"] == 1
    assert [(row["vertical"], row["accuracy"], row["judged_by"], row["open"]) for row in report["gate"]] == [
        ("mug", 0.25, "own labels", False),
        ("rug", 1.0, "own labels", True),
    ]


def test_the_gate_falls_back_to_the_attribute_over_all_verticals_and_passes_what_nothing_can_judge(
    mined: Mined,
) -> None:
    gold = [sample(f"g{k}", "aaab", vertical="mug") for k in range(4)] + [sample("h", "aaab", vertical="rug")]
    labels = [label(f"g{k}", "beige", "validation") for k in range(4)] + [label("h", "amber", "validation")]
    pairs, report = mined(
        [*gold, sample("v", "aaab", vertical="rug"), sample("w", "aaab", "finish")], labels, gate_min_labels=4
    )
    judged = {
        (row["vertical"], row["attribute"]): (row["judged_by"], row["judged_accuracy"], row["open"])
        for row in report["gate"]
    }
    assert judged == {
        ("mug", "finish"): ("not judged", None, True),
        ("mug", "shade"): ("own labels", 0, False),
        ("rug", "shade"): ("attribute", 0.2, False),
    }
    assert list(pairs["listing"]) == ["w"]


def test_gold_that_an_ancestor_was_trained_on_neither_judges_the_consensus_nor_is_trained_on(mined: Mined) -> None:
    chains = [sample(f"g{k}", "aaab") for k in range(4)] + [sample("u", "aaab")]
    labels = [label(f"g{k}", "amber" if k < 2 else "beige", "validation") for k in range(4)]
    left_out = [LeftOut(listing=f"g{k}", split="validation", reason="trained") for k in range(2)]
    pairs, report = mined(chains, labels, left_out)
    assert [(row["labelled"], row["accuracy"]) for row in report["gate"]] == [(2, 0.0)], (
        "what it knows by heart is right"
    )
    pairs, report = mined(chains, labels, left_out[:1], gate_accuracy=0)
    assert [(row["labelled"], row["right"]) for row in report["gate"]] == [(3, 1)]
    assert set(pairs["listing"]) == {"u"}


def test_labels_below_the_threshold_do_not_judge_the_consensus(mined: Mined) -> None:
    _, report = mined(
        [sample("x", "aabbc"), sample("y", "aaab")], [label("x", "coral", "validation"), label("y", "amber", "train")]
    )
    assert [(row["labelled"], row["accuracy"]) for row in report["gate"]] == [(1, 1.0)]


def test_a_contrast_without_its_reverse_gives_nothing_and_one_with_it_keeps_the_heaviest(mined: Mined) -> None:
    weak, strong = [sample(f"w{k}", "aaaaabbb") for k in range(3)], sample("s", "aaaaaaab")
    pairs, report = mined([*weak, strong, sample("r", "bbbbbbaa"), sample("c", "aaaaaaac")], balance=1)
    assert sorted(pairs["listing"]) == ["r", "s"] and report["dropped_rows"]["balance"] == 4
    (amber,) = [row for row in report["values"] if row["value"] == "amber"]
    assert (amber["chosen_before"]["count"], amber["chosen_after"]["count"], amber["rejected_after"]["count"]) == (
        5,
        1,
        1,
    )


def test_balance_is_over_the_verticals_that_share_an_attribute(mined: Mined) -> None:
    pairs, _ = mined([sample("x", "aaab", vertical="mug"), sample("y", "bbba", vertical="rug")], balance=1)
    assert sorted(pairs["listing"]) == ["x", "y"]


def test_pairs_against_off_list_answers_are_capped_by_the_contrasts_and_spread_over_values(mined: Mined) -> None:
    contrasts = [sample("x1", "aaab"), sample("x2", "bbba"), sample("x3", "aaab"), sample("x4", "bbba")]
    off = [sample(f"o{k}", "aaa-") for k in range(6)] + [sample(f"p{k}", "bbb-") for k in range(3)]
    pairs, report = mined([*contrasts, *off], balance=1, off_list_ratio=0.5)
    against = pairs.filter(pl.col("rejected_answer").is_null())
    assert sorted(against["chosen_answer"]) == ["amber", "beige"] and report["dropped_rows"]["off-list cap"] == 7


def test_anchors_are_capped_by_the_pairs_and_spread_evenly_over_values(mined: Mined) -> None:
    unanimous = (
        [sample(f"a{k}", "aaaa") for k in range(9)]
        + [sample(f"b{k}", "bbbb") for k in range(2)]
        + [sample(f"c{k}", "cccc") for k in range(5)]
    )
    pairs, report = mined([*unanimous, *(sample(f"p{k}", "aaab") for k in range(4))], anchor_ratio=2, anchor_floor=0)
    anchors = pairs.filter(pl.col("source") == "anchor")
    assert dict(anchors["chosen_answer"].value_counts().iter_rows()) == {"amber": 3, "beige": 2, "coral": 3}
    assert report["dropped_rows"]["anchor cap"] == 8
    assert anchors["rejected"].null_count() == 8 and set(anchors["weight"]) == {1.0}


def test_without_a_single_pair_there_are_still_anchors_up_to_the_floor(mined: Mined) -> None:
    pairs, _ = mined([sample(f"a{k}", "aaaa") for k in range(9)], anchor_floor=5)
    assert list(pairs["source"]) == ["anchor"] * 5


def test_anchors_can_be_switched_off(mined: Mined) -> None:
    pairs, _ = mined([sample("x", "aaaa"), sample("y", "aaab")], anchors=False)
    assert list(pairs["listing"]) == ["y"]


def test_nothing_mined_is_an_empty_file_with_the_right_columns_and_a_reason(mined: Mined) -> None:
    pairs, report = mined([sample("x", "aabb")])
    assert pairs.is_empty() and dict(pairs.schema) == polars_schema(Pair)
    assert report["why_empty"] == "No rows: 1 samples: tie."


def test_no_chains_at_all_is_an_empty_file_too(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    finish(ws, [], [])
    assert dict(pl.read_parquet(Path(ws.store.root, mine(ws.store.root, STAGE))).schema) == polars_schema(Pair)


def test_agreement_is_calibrated_on_validation_labels_alone(mined: Mined) -> None:
    labels = [label("x", "amber", "validation"), label("y", "amber", "validation"), label("t", "beige", "train")]
    _, report = mined([sample("x", "aaab"), sample("y", "bbba"), sample("t", "aaab"), sample("u", "aaaa")], labels)
    bins = {
        round(row["from"], 1): (row["samples"], row["labelled"], row["accuracy"])
        for row in report["agreement"]
        if row["samples"]
    }
    assert bins == {0.7: (3, 2, 0.5), 0.9: (1, 0, None)}
    assert report["consensus_precision"]["train"] == {"labelled": 1, "right": 0, "accuracy": 0.0}


def test_every_arm_that_the_config_allows_has_its_rules() -> None:
    assert set(ARMS) == set(get_args(MineConfig.model_fields["arm"].annotation))


def test_plain_arm_has_the_threshold_and_nothing_else(mined: Mined) -> None:
    samples = [sample("x", "aaab"), sample("u", "aaaa"), sample("t", "aaab"), sample("weak", "aabbc")]
    pairs, _ = mined(samples, [label("t", "beige", "train")], arm="plain", balance=1, gate_min_labels=1)
    assert [(row["listing"], row["weight"]) for row in pairs.iter_rows(named=True)] == [("x", 1.0)]


def test_self_training_arm_has_no_rejected_chain(mined: Mined) -> None:
    samples = [sample("x", "aaab"), sample("u", "aaaa"), sample("t", "aa ab"), sample("weak", "aabbc")]
    pairs, _ = mined(samples, [label("t", "amber", "train")], arm="self_training", anchor_floor=0, anchor_ratio=0)
    assert pairs["rejected"].null_count() == pairs.height
    assert sorted(zip(pairs["listing"], pairs["source"], pairs["chosen_answer"], strict=True)) == [
        ("t", "label_anchor", "amber"),
        ("t", "label_anchor", "amber"),
        ("u", "anchor", "amber"),
        ("x", "anchor", "amber"),
    ]


def test_true_labels_arm_prefers_the_truth_even_in_the_minority(mined: Mined, tmp_path: Path) -> None:
    names = ("x", "no-right", "all-right", "unknown", "gold")
    rows = [{"id": name, "vertical": "mug", "images": ["i.png"]} for name in names]
    (tmp_path / "listings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    truth = [{"listing": name, "attribute": "shade", "value": "Beige"} for name in names if name != "unknown"]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in truth))
    samples = [
        sample("x", "aaab"),
        sample("no-right", "aaac"),
        sample("all-right", "bbbb"),
        sample("unknown", "aaab"),
        sample("gold", "aaab"),
    ]
    pairs, report = mined(
        samples, [label("gold", "beige", "validation")], arm="true_labels", truth=str(tmp_path / "truth.jsonl")
    )
    found = {
        row["listing"]: (row["chosen_answer"], row["rejected_answer"], row["weight"])
        for row in pairs.iter_rows(named=True)
    }
    assert found == {"x": ("beige", "amber", 1.0), "all-right": ("beige", None, 1.0)}
    assert report["samples"] == {"contrast": 1, "no right chain": 1, "no truth": 1, "unanimous": 1}


def test_self_training_draws_the_view_evenly_so_that_photographs_that_mislead_are_trained_on(mined: Mined) -> None:
    pairs, _ = mined([sample(f"x{k}", "aaaa bbbb aaaa") for k in range(30)], arm="self_training")
    assert set(pairs["view"]) == {0, 1, 2} and set(pairs["chosen_answer"]) == {"amber"}
    assert not any(text.startswith("view 1 ") for text in pairs["chosen"])


def test_anchors_are_not_trained_on_views_that_only_abstain(mined: Mined) -> None:
    pairs, _ = mined([sample(f"x{k}", "aaaa ???? aaaa") for k in range(30)], anchor_agreement=0.5)
    assert set(pairs["view"]) == {0, 2}


@pytest.mark.parametrize("truth", ["", "/nowhere/truth.jsonl"])
def test_true_labels_arm_without_its_file_is_a_clear_error(mined: Mined, truth: str) -> None:
    with pytest.raises(InputError, match=r"mine\.truth.*Give the path"):
        mined([sample("x", "aaab")], arm="true_labels", truth=truth)


def test_chains_that_are_not_finished_are_a_clear_error(tmp_path: Path) -> None:
    ws: Workspace = workspace(tmp_path)
    with pytest.raises(InputError, match="chains: not finished"):
        mine(ws.store.root, STAGE)


def test_a_full_disk_is_a_clear_error_and_the_same_call_then_goes_on(tmp_path: Path) -> None:
    ws = workspace(tmp_path, **EASY)
    finish(ws, [to_frame(sample("x", "aaab"), Chain)], [])
    expected = Path(ws.store.root, mine(ws.store.root, STAGE)).read_bytes()
    folder = ws.store.folder(f"{STAGE}/pairs")
    (folder / "manifest.json").unlink()
    with full_disk("pairs.parquet"), pytest.raises(InputError, match=r"pairs\.parquet: no space left"):
        mine(ws.store.root, STAGE)
    assert Path(ws.store.root, mine(ws.store.root, STAGE)).read_bytes() == expected

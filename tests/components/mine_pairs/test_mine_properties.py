"""Properties of mining that must hold on any chains, checked on synthetic ones by the ten thousand."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from attrloop.components.mine_pairs import mine as module
from attrloop.components.mine_pairs.mine import mine
from attrloop.components.mine_pairs.votes import vote
from attrloop.components.run.workspace import Workspace
from tests.bench.chains import STAGE, workspace, world
from tests.stores import finish_again


def result(ws: Workspace) -> pl.DataFrame:
    return pl.read_parquet(Path(ws.store.root, mine(ws.store.root, STAGE)))


def contrasts(pairs: pl.DataFrame) -> dict[tuple[str, str, str], tuple[float, float]]:
    """(attribute, chosen, rejected) -> total weight and heaviest weight of the consensus pairs."""
    rows = pairs.filter(pl.col("source") == "consensus", pl.col("rejected_answer").is_not_null())
    table = rows.group_by("attribute", "chosen_answer", "rejected_answer").agg(
        total=pl.col("weight").sum(), heaviest=pl.col("weight").max()
    )
    return {row[:3]: row[3:] for row in table.iter_rows()}


@pytest.mark.parametrize("balance", [1.0, 1.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_contrast_outweighs_its_reverse_by_more_than_one_pair(tmp_path: Path, balance: float, seed: int) -> None:
    free = workspace(tmp_path / "free", balance=0, pairs_per_sample=2)
    held = workspace(tmp_path / "held", balance=balance, pairs_per_sample=2)
    for ws in (free, held):
        world(ws, 20_000, seed)
    before, after = contrasts(result(free)), contrasts(result(held))

    def excess(found: dict[tuple[str, str, str], tuple[float, float]]) -> float:
        return max(
            total - balance * found.get((name, b, a), (0.0, 0.0))[0] - heaviest
            for (name, a, b), (total, heaviest) in found.items()
        )

    assert excess(before) > 1, "the chains must need balancing, or this test shows nothing"
    assert excess(after) <= 1e-9
    for (name, a, b), (total, _) in before.items():
        if total <= balance * before.get((name, b, a), (0.0, 0.0))[0]:
            assert after[name, a, b][0] == pytest.approx(total), "the weaker side of a contrast is kept whole"


def test_rows_of_the_shards_in_another_order_give_the_same_pairs_in_the_same_order(tmp_path: Path) -> None:
    one, other = workspace(tmp_path / "one"), workspace(tmp_path / "other")
    for ws in (one, other):
        world(ws, 20_000)
    for k, path in enumerate(sorted(other.store.folder(f"{STAGE}/chains").glob("shard-*.parquet"))):
        pl.read_parquet(path).sample(fraction=1, shuffle=True, seed=k).write_parquet(path)
    finish_again(other.store, f"{STAGE}/chains")
    assert result(one).equals(result(other))
    assert one.store.read(f"{STAGE}/pairs/report.json") == other.store.read(f"{STAGE}/pairs/report.json")


def test_other_batches_give_the_same_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = workspace(tmp_path / "one"), workspace(tmp_path / "other")
    for ws in (one, other):
        world(ws, 20_000)
    first = result(one)
    monkeypatch.setattr(module, "BATCH_CHAINS", 4_000)
    assert first.height > 1_000 and first.equals(result(other))


def test_another_seed_draws_other_chains_for_the_same_preferences(tmp_path: Path) -> None:
    frames = []
    for seed in (0, 1):
        ws = workspace(tmp_path / str(seed))
        ws = Workspace.create(
            ws.store.root,
            ws.config.model_copy(update={"seed": seed, "mine": ws.config.mine.model_copy(update={"balance": 0.0})}),
        )
        world(ws, 5_000)
        frames.append(result(ws).filter(pl.col("source") == "consensus"))
    assert frames[0]["chosen"].to_list() != frames[1]["chosen"].to_list()
    assert frames[0]["chosen_answer"].to_list() == frames[1]["chosen_answer"].to_list()


@pytest.mark.parametrize("arm", ["consensus", "plain", "self_training"])
def test_gold_listings_are_in_no_row_of_any_arm_and_chains_say_what_the_row_says(tmp_path: Path, arm: str) -> None:
    ws = workspace(tmp_path, arm=arm, balance=0)
    truth = world(ws, 20_000)
    pairs = result(ws)
    splits = {
        json.loads(line)["listing"]: json.loads(line)["split"]
        for line in ws.store.read("annotate/labels.jsonl").splitlines()
    }
    assert pairs.height > 1_000 and {splits.get(listing) for listing in pairs["listing"]} <= {None, "train"}
    for row in pairs.iter_rows(named=True):
        assert (
            row["chosen"].endswith(f"Answer: {row['chosen_answer']}") and row["chosen_answer"] != row["rejected_answer"]
        )
        assert (row["source"] in ("label", "label_anchor")) == (row["listing"] in splits)
        if row["listing"] in splits:
            assert row["chosen_answer"] == truth[row["listing"], row["attribute"]]
        if row["rejected"] is not None:
            assert row["rejected"].endswith(f"Answer: {row['rejected_answer'] or 'teal'}")


def test_chosen_and_rejected_chains_come_from_the_view_of_the_row(tmp_path: Path) -> None:
    ws = workspace(tmp_path, balance=0)
    world(ws, 5_000)
    chains = pl.read_parquet(ws.store.folder(f"{STAGE}/chains") / "shard-*.parquet")
    said = {
        (row["listing"], row["attribute"], row["view"], row["text"]): row["answer"]
        for row in chains.iter_rows(named=True)
    }
    winners = {key[:3] for key, answer in said.items() if answer is not None}
    pairs = result(ws).filter(pl.col("source") == "consensus")
    moved = 0
    for row in pairs.iter_rows(named=True):
        place = (row["listing"], row["attribute"], row["view"])
        assert said[*place, row["rejected"]] == row["rejected_answer"]
        if (*place, row["chosen"]) not in said:
            moved += 1
            assert not any(key[:3] == place and answer == row["chosen_answer"] for key, answer in said.items()), (
                "a winner's chain on the same view is preferred"
            )
    assert winners and 0 < moved < pairs.height / 2


def test_the_report_adds_up(tmp_path: Path) -> None:
    ws = workspace(tmp_path, anchor_ratio=0.1, anchor_floor=0)
    world(ws, 20_000)
    pairs = result(ws)
    report: dict[str, Any] = json.loads(ws.store.read(f"{STAGE}/pairs/report.json"))
    assert (
        sum(report["samples"].values()) + sum(report["labelled_samples"].values())
        == 20_000 // 8
        == sum(row["samples"] for row in report["agreement"])
    )
    assert (
        report["samples"]["contrast"]
        == report["rows"]["pairs"] + report["dropped_rows"]["balance"] + report["dropped_rows"]["off-list cap"]
    )
    assert report["samples"]["unanimous"] == report["rows"]["anchors"] + report["dropped_rows"]["anchor cap"]
    assert report["dropped_rows"]["balance"] > 0 and report["dropped_rows"]["anchor cap"] > 0
    sources = dict(pairs["source"].value_counts().iter_rows())
    assert (sources["consensus"], sources["anchor"]) == (report["rows"]["pairs"], report["rows"]["anchors"])
    assert sources["label"] + sources["label_anchor"] == report["rows"]["label_rows"]
    preferred = pairs.filter(pl.col("source").is_in(["consensus", "label"]))
    assert {
        (row["attribute"], row["value"]): row["chosen_after"]["count"]
        for row in report["values"]
        if "chosen_after" in row
    } == {row[:2]: row[2] for row in preferred.group_by("attribute", "chosen_answer").len().iter_rows()}


def test_a_second_call_does_nothing_and_a_changed_config_mines_again(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    world(ws, 5_000)
    path = Path(ws.store.root, mine(ws.store.root, STAGE))
    stamp = path.stat().st_mtime_ns
    mine(ws.store.root, STAGE)
    assert path.stat().st_mtime_ns == stamp
    Workspace.create(
        ws.store.root, ws.config.model_copy(update={"mine": ws.config.mine.model_copy(update={"anchors": False})})
    )
    mine(ws.store.root, STAGE)
    assert path.stat().st_mtime_ns != stamp


KILLED = (
    "import sys; from attrloop.components.mine_pairs import mine; mine.BATCH_CHAINS = 1_000; mine.mine(*sys.argv[1:])"
)


@pytest.mark.slow
def test_killed_and_started_again_it_keeps_the_finished_batches_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_CHAINS", 1_000)
    calm, killed = workspace(tmp_path / "calm"), workspace(tmp_path / "killed")
    for ws in (calm, killed):
        world(ws, 60_000, shard_size=60)
    expected = Path(calm.store.root, mine(calm.store.root, STAGE)).read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, killed.store.root, STAGE],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"POLARS_MAX_THREADS": "1"},
    )
    work = Path(killed.store.root, STAGE, "pairs", "work")
    deadline = time.monotonic() + 60
    while not (work / "00003.tally.parquet").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.stem.split(".")[0] for path in work.glob("*.tally.parquet")}
    assert 4 <= len(done) < 60 and not (work.parent / "manifest.json").exists()
    read = []
    monkeypatch.setattr(module, "vote", lambda *args, vote=vote: read.append(args[0].height) or vote(*args))
    assert Path(killed.store.root, mine(killed.store.root, STAGE)).read_bytes() == expected
    assert len(read) == 60_000 // 960 + 1 - len(done), "batches that were finished are not counted again"
    assert killed.store.read(f"{STAGE}/pairs/report.json") == calm.store.read(f"{STAGE}/pairs/report.json")
    assert not work.exists()

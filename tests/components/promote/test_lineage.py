"""A candidate is compared on gold that neither side has learnt from, by real adapters of a tiny model."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from kfp import dsl
from mlflow import MlflowClient

from attrloop.components.catalogue.records import Label
from attrloop.components.errors import InputError
from attrloop.components.evaluate.stage import evaluate_stage
from attrloop.components.evaluate_test.evaluate_all import evaluate_all
from attrloop.components.fetch_adapter.fetch import ADAPTER, fetch
from attrloop.components.gold.learnt import learnt_by_iteration, learnt_by_labels, write_learnt
from attrloop.components.model.vlm import Vlm
from attrloop.components.promote.ledger import Ledger
from attrloop.components.promote.promote import promote
from attrloop.components.register_adapter.register import register
from attrloop.components.results.reader import Results
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import EvaluateConfig, ModelConfig, PromoteConfig
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.opening import open_store
from tests.stores import finish_again
from tests.tiny import qwen2_5_vl
from tests.tracked import VERTICALS, make_run

pytestmark = pytest.mark.slow

GOLD = 6  # listings of each vertical in the catalogue: 0 to 5
NAME = "attribute-adapter"
Splits = dict[str, str]  # the split of the listings by their last digit, in every vertical


@dataclass
class Shop:
    """Runs over one catalogue whose splits are stated by hand, as an earlier version's drifting splits were."""

    runs: Path
    base: Path

    def open(self, name: str, splits: Splits, min_gold: int = 1) -> Workspace:
        """A workspace with labels."""
        evaluate = EvaluateConfig(bootstrap=50, max_new_tokens=4, batch_size=16)
        model, gate = ModelConfig(base=str(self.base), lora_rank=2), PromoteConfig(min_gold=min_gold, resamples=100)
        ws = make_run(self.runs, name, {"base": 0.3}, gold=GOLD // 2, model=model, evaluate=evaluate, promote=gate).ws
        ws.store.remove("evaluate")
        labels = Artifact(ws.store, "annotate", {"splits": json.dumps(splits)})
        rows = [
            Label.model_validate({"listing": f"{vertical}-{k}", "attribute": "trim", "value": "red", "split": split})
            for vertical in VERTICALS
            for k, split in splits.items()
        ]
        (labels.folder / "labels.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
        labels.finish("labels", {}, ["labels.jsonl"])
        return ws

    def first(self, name: str, splits: Splits, seed: int = 0, min_gold: int = 1) -> tuple[Workspace, str]:
        """A run of base and SFT up to its evaluation on test; its workspace and state."""
        ws = self.open(name, splits, min_gold)
        self.train(ws, "sft", seed)
        return ws, conclude(ws, evaluated(ws, "sft", "sft/adapter"))

    def continued(self, name: str, splits: Splits, start: str = "", seed: int = 1) -> tuple[Workspace, str]:
        """A run of one iteration from an adapter up to its evaluation on test."""
        ws = self.open(name, splits)
        fetch(ws.store.root, start)
        state = evaluated(ws, "start", ADAPTER)
        self.train(ws, "iteration-1/dpo", seed, ADAPTER)
        return ws, conclude(ws, evaluated(ws, "iteration-1", "iteration-1/dpo/adapter", state))

    def train(self, ws: Workspace, path: str, seed: int, source: str = "") -> None:
        """An adapter with random weights, and the record that its training writes."""
        stage = Artifact(ws.store, path, {"seed": str(seed)})
        vlm = Vlm.open(ws)
        vlm.add_adapter(seed)
        for key, weight in vlm.model.named_parameters():
            if "lora_B" in key:
                weight.data.normal_(std=0.5)
        vlm.model.save_pretrained(stage.folder / "adapter")
        write_learnt(
            ws, stage.folder / "learnt.parquet", learnt_by_iteration(ws) if source else learnt_by_labels(ws), source
        )
        stage.finish("adapter", {"rows": 1, "seconds": 1.0}, ["adapter", "learnt.parquet"])


def evaluated(ws: Workspace, stage: str, adapter: str, state: str = "") -> str:
    sinks = {"metrics": dsl.Metrics(), "confusion": dsl.ClassificationMetrics()}
    return evaluate_stage(ws.store.root, stage, adapter, state, **sinks)


def conclude(ws: Workspace, state: str) -> str:
    evaluate_all(ws.store.root, state, dsl.Metrics(), dsl.ClassificationMetrics())
    return state


def decide(run: tuple[Workspace, str]) -> dict:
    """Registers and promotes; what the promotion decided."""
    ws, state = run
    register(ws.store.root, state)
    promote(ws.store.root, state)
    return json.loads(ws.store.read("promote/result.json"))


@pytest.fixture
def shop(runs: Path, tmp_path: Path) -> Shop:
    return Shop(runs, qwen2_5_vl(tmp_path / "base"))


@pytest.fixture
def champion(shop: Shop) -> Callable[[Splits], Workspace]:
    """Makes the adapter of a run champion, whatever the gate says."""

    def make(splits: Splits) -> Workspace:
        run = shop.first("champion", splits)
        register(run[0].store.root, run[1])
        MlflowClient(*[f"sqlite:///{shop.runs}/mlflow.db"] * 2).set_registered_model_alias(NAME, "champion", "1")
        return run[0]

    return make


def test_gold_that_a_champion_of_another_lineage_has_learnt_from_is_left_out_for_both(shop, champion) -> None:
    champion({"0": "train", "1": "validation", "2": "test"})
    run = shop.first("other", {"5": "train", "4": "validation", "0": "test", "1": "test", "2": "test"}, seed=1)
    decided = decide(run)
    assert decided["against"] == "version 1"
    assert decided["left_out"] | {"named": []} == {
        "listings": 6, "of": 9, "reasons": {"trained": 3, "chosen": 3}, "named": [],
    }  # fmt: skip
    assert (
        "6 of 9 gold listings are left out (3 already trained on, 3 already used to choose): Café mug-0, Café mug-1"
        in decided["reason"]
    )
    (entry,) = Ledger(open_store(str(shop.runs)), NAME).entries()
    assert entry.verdict and entry.verdict.macro and entry.verdict.macro.count == 3, "what is left"
    theirs = json.loads(run[0].store.read("evaluate/test/champion-1/metrics.json"))
    assert (theirs["count"], theirs["left_out"]["listings"]) == (3, 6)
    own = json.loads(run[0].store.read("evaluate/test/sft/metrics.json"))
    assert (own["count"], own["left_out"]) == (9, None), "the run itself has learnt from none of them"


def test_the_least_gold_that_the_gate_needs_is_counted_by_what_is_left(shop, champion) -> None:
    champion({"0": "train", "1": "validation", "2": "test"})
    run = shop.first("other", {"5": "train", "4": "validation", "0": "test", "2": "test"}, seed=1, min_gold=2)
    assert decide(run)["reason"].startswith("too few gold labels: 2 test samples per vertical are needed")


def test_a_champion_that_has_learnt_from_all_gold_cannot_be_compared_with(shop, champion) -> None:
    champion({"0": "train", "1": "validation", "2": "test"})
    run = shop.first("other", {"5": "train", "4": "validation", "0": "test", "1": "test"}, seed=1)
    decided = decide(run)
    assert decided["action"] == "refused" and decided["macro"] is None
    assert decided["reason"].startswith("there is no gold to compare by: 6 of 6 gold listings are left out")
    assert MlflowClient(*[f"sqlite:///{shop.runs}/mlflow.db"] * 2).get_model_version(NAME, "2").tags["stage"] == "sft"
    assert Results.of(run[0].store.root, run[1]).flips, "the report does without that comparison"


def test_a_run_that_continues_is_judged_on_gold_that_its_start_has_not_learnt_from(shop, champion) -> None:
    champion({"0": "train", "1": "validation", "2": "test"})
    splits = {"3": "train", "0": "validation", "4": "validation", "1": "test", "2": "test", "5": "test"}
    ws, state = shop.continued("weekly", {**splits})
    for stage in ("base", "start", "iteration-1"):
        found = {
            split: json.loads(ws.store.read(f"evaluate/{split}/{stage}/metrics.json"))
            for split in ("validation", "test")
        }
        assert {split: scores["count"] for split, scores in found.items()} == {"validation": 3, "test": 6}, stage
        assert found["validation"]["left_out"]["reasons"] == {"trained": 3}
        assert found["test"]["left_out"]["reasons"] == {"chosen": 3}
    decided = decide((ws, state))
    assert decided["left_out"]["reasons"] == {"chosen": 3} and decided["unknown"] == []


def test_a_run_whose_start_has_learnt_from_all_test_gold_is_registered_and_refused(shop, champion) -> None:
    champion({"0": "train", "1": "validation", "2": "test"})
    ws, state = shop.continued("weekly", {"3": "train", "4": "validation", "0": "test", "1": "test"})
    assert not ws.store.list("evaluate/test")
    decided = decide((ws, state))
    assert (
        decided["action"] == "refused" and "there is no gold to compare by: 6 of 6 gold listings" in decided["reason"]
    )
    assert "train a new adapter with `attrloop run`" in decided["reason"]
    assert Results.of(ws.store.root, state).split == "validation"


def test_a_run_whose_start_was_trained_on_all_validation_gold_has_nothing_to_choose_by(shop, champion) -> None:
    champion({"0": "train", "1": "validation", "2": "test"})
    with pytest.raises(
        InputError, match=r"no gold of split 'validation'.*3 of 3 gold listings are left out \(3 already trained on\)"
    ):
        shop.continued("weekly", {"3": "train", "0": "validation", "2": "test"})


@pytest.mark.parametrize("there", [True, False], ids=["its run is there", "its run is gone"])
def test_a_champion_of_unknown_history_is_compared_with_and_the_verdict_says_so(shop, there: bool) -> None:
    ws, state = shop.first("champion", {"0": "train", "1": "validation", "2": "test"})
    (Path(ws.store.root) / "sft" / "learnt.parquet").unlink()  # as an earlier version left it
    finish_again(ws.store, "sft")
    register(ws.store.root, state)
    MlflowClient(*[f"sqlite:///{shop.runs}/mlflow.db"] * 2).set_registered_model_alias(NAME, "champion", "1")
    if not there:
        Path(ws.store.root).rename(shop.runs.parent / "elsewhere")
    decided = decide(shop.first("other", {"5": "train", "4": "validation", "0": "test", "3": "test"}, seed=1))
    assert decided["unknown"] == [f"models:/{NAME}/1"]
    if there:
        assert decided["left_out"]["reasons"] == {"trained": 3}, "what the files of its run tell"
        assert "(all in champions/1/left-out/listings.jsonl)" in decided["reason"]
    else:
        assert decided["left_out"] is None
    assert f"it is not known what models:/{NAME}/1 learnt from (made by an earlier version" in decided["reason"]
    assert "Train a new adapter with `attrloop run`" in decided["reason"]

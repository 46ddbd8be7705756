"""Evaluation with a tiny real Qwen2.5-VL: what it answers is noise, how it is counted, kept and reused is not."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from attrloop.components.catalogue.records import Prediction
from attrloop.components.errors import InputError
from attrloop.components.evaluate import evaluate as module
from attrloop.components.evaluate.evaluate import Seen, evaluate, majority
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.workspace import Workspace
from tests.evaluated import with_adapter
from tests.tiny import qwen2_5_vl


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen2_5_vl(tmp_path_factory.mktemp("base"))


@pytest.fixture
def ws(tmp_path: Path, base: Path) -> Workspace:
    """Two verticals with four gold samples each on validation and on test, and a finished `sft` with an adapter."""
    return with_adapter(tmp_path, base, batch_size=1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the decoded batches, in order, by watching the real decoding."""
    sizes: list[int] = []
    real = Vlm.generate

    def watched(self: Vlm, batch: Any, *arguments: Any, **named: Any) -> Any:
        sizes.append(len(batch))
        return real(self, batch, *arguments, **named)

    monkeypatch.setattr(Vlm, "generate", watched)
    return sizes


def rows(ws: Workspace, path: str) -> list[Prediction]:
    return [
        Prediction(**row)
        for row in pl.read_parquet(Path(ws.store.root) / path / "predictions.parquet").iter_rows(named=True)
    ]


def test_every_gold_label_gets_one_prediction_and_the_metrics_follow_from_them(ws: Workspace):
    scores = evaluate(ws.store.root, {"base": "", "sft": "sft/adapter"}, "validation")
    assert set(scores) == {"base", "sft"}
    for stage, evaluation in scores.items():
        macro = evaluation.macro_accuracy
        found = rows(ws, f"evaluate/validation/{stage}")
        assert [(row.listing, row.attribute, row.gold) for row in found] == [
            (x.listing, x.attribute, x.value) for x in ws.labels("validation")
        ]
        figures = json.loads(ws.store.read(f"evaluate/validation/{stage}/metrics.json"))
        assert figures["macro_accuracy"] == macro and figures["stage"] == stage and figures["split"] == "validation"
        by_vertical = {v: [row.answer == row.gold for row in found if row.vertical == v] for v in figures["verticals"]}
        assert macro == pytest.approx(sum(sum(right) / len(right) for right in by_vertical.values()) / len(by_vertical))
    assert all(0 <= row.confidence <= 1 and 1 <= row.tokens <= 5 for row in found)


def test_what_was_evaluated_is_not_decoded_again(ws: Workspace, decoded: list[int]):
    first = evaluate(ws.store.root, {"base": ""}, "validation")
    before = len(decoded)
    assert evaluate(ws.store.root, {"base": ""}, "validation") == first
    assert before == 1 and len(decoded) == before


def test_a_stage_that_kept_its_predecessors_adapter_has_its_own_folder_without_decoding(
    ws: Workspace, decoded: list[int]
):
    scores = evaluate(ws.store.root, {"sft": "sft/adapter", "iteration-1": "sft/adapter"}, "validation")
    assert scores["sft"].verticals == scores["iteration-1"].verticals and len(decoded) == 1
    assert rows(ws, "evaluate/validation/sft") == rows(ws, "evaluate/validation/iteration-1")
    assert json.loads(ws.store.read("evaluate/validation/iteration-1/metrics.json"))["stage"] == "iteration-1"


def test_another_adapter_under_the_same_name_is_evaluated_anew(ws: Workspace, decoded: list[int]):
    evaluate(ws.store.root, {"sft": "sft/adapter"}, "validation")
    before = read_manifest(ws.store, "evaluate/validation/sft")
    stage = Artifact(ws.store, "sft", {})
    (stage.folder / "adapter" / "more.txt").write_text("trained on")
    stage.finish("adapter", {"seconds": 1.0}, ["adapter"])
    evaluate(ws.store.root, {"sft": "sft/adapter"}, "validation")
    after = read_manifest(ws.store, "evaluate/validation/sft")
    assert before and after and len(decoded) == 2 and before.made_from["adapter"] != after.made_from["adapter"]


def test_a_killed_evaluation_goes_on_where_it_stopped_and_ends_the_same(
    ws: Workspace, decoded: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_SHARD_BATCHES", 2)
    evaluate(ws.store.root, {"base": ""}, "validation")
    whole, undisturbed = rows(ws, "evaluate/validation/base"), len(decoded)
    ws.store.remove("evaluate/validation/base")
    watched, calls = Vlm.generate, len(decoded)

    def killed(self: Vlm, batch: Any, *arguments: Any, **named: Any) -> Any:
        if len(decoded) == calls + 1:
            raise KeyboardInterrupt
        return watched(self, batch, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Vlm, "generate", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(ws.store.root, {"base": ""}, "validation")
    assert read_manifest(ws.store, "evaluate/validation/base") is None
    evaluate(ws.store.root, {"base": ""}, "validation")
    assert rows(ws, "evaluate/validation/base") == whole
    assert undisturbed > 1 and len(decoded) - calls == undisturbed  # nothing decoded twice


def test_each_view_is_decoded_when_the_config_says_so(ws: Workspace, decoded: list[int]):
    evaluate(ws.store.root, {"base": ""}, "validation")
    Workspace.create(
        ws.store.root,
        ws.config.model_copy(update={"evaluate": ws.config.evaluate.model_copy(update={"views": "each"})}),
    )
    evaluate(ws.store.root, {"base": ""}, "validation")
    samples = len(ws.labels("validation"))
    assert decoded == [samples, 2 * samples] and len(rows(ws, "evaluate/validation/base")) == samples


def test_an_adapter_that_is_not_finished_is_refused(ws: Workspace):
    with pytest.raises(InputError, match="iteration-1/dpo: not finished"):
        evaluate(ws.store.root, {"iteration-1": "iteration-1/dpo/adapter"}, "validation")


def test_a_split_without_labels_is_refused(ws: Workspace):
    stage = Artifact(ws.store, "annotate", {"other": "labels"})
    (stage.folder / "labels.jsonl").write_text("")
    stage.finish("labels", {}, ["labels.jsonl"])
    told = (
        r"no gold of split 'test': none of the \d+ listings of split 'test' has a label.*Give labels with split: test"
    )
    with pytest.raises(InputError, match=told):
        evaluate(ws.store.root, {"base": ""}, "test")
    annotate = ws.config.annotate.model_copy(update={"test_per_vertical": 0})
    Workspace.create(ws.store.root, ws.config.model_copy(update={"annotate": annotate}))
    with pytest.raises(InputError, match=r"no labels of split 'test'. Set annotate.test_per_vertical above 0"):
        evaluate(ws.store.root, {"base": ""}, "test")


def test_majority_over_views_takes_the_answer_of_most_views():
    views = [Seen("red", 0.9, "r", 3), Seen("blue", 0.6, "b1", 3), Seen("blue", 0.8, "b2", 4)]
    assert astuple(majority(views)) == ("blue", pytest.approx(1.4 / 3), "b2", 4)


def test_views_that_tie_are_settled_by_confidence_and_off_list_answers_never_win():
    assert majority([Seen("red", 0.4, "r", 3), Seen("blue", 0.6, "b", 3)]).answer == "blue"
    assert majority([Seen(None, 0.9, "x", 3), Seen(None, 0.8, "y", 3), Seen("red", 0.2, "r", 3)]).answer == "red"
    assert majority([Seen("not visible", 0.9, "n", 3)] * 2 + [Seen("red", 0.2, "r", 3)]).answer == "red", (
        "one that sees it is believed, as by predict"
    )
    assert majority([Seen("not_visible", 0.9, "n", 3), Seen(None, 0.9, "x", 3)]).answer == "not_visible"
    assert majority([Seen(None, 0.9, "x", 3)]) == Seen(None, 0.9, "x", 3)


def test_predictions_hold_the_records_columns(ws: Workspace):
    evaluate(ws.store.root, {"base": ""}, "test")
    assert pl.read_parquet(Path(ws.store.root) / "evaluate/test/base/predictions.parquet").columns == list(
        Prediction.model_fields
    )

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import polars as pl
import pytest
from mlflow import MlflowClient
from PIL import Image

from attrloop.components.console import PlainConsole
from attrloop.components.errors import InputError
from attrloop.components.register_adapter.register import register
from attrloop.components.report import confusions, panels
from attrloop.components.report.gallery import examples
from attrloop.components.report.report import headline, print_table, report, summary, write_report
from attrloop.components.results.evaluation import METRICS
from attrloop.components.results.reader import Results
from attrloop.components.run.state import LoopState, Outcome
from tests.splits import write_splits
from tests.stores import finish_again
from tests.tracked import make_run

SCHEMA = json.loads(files("attrloop.components.report").joinpath("summary.schema.json").read_text())


def page_of(run: Any) -> str:
    return run.ws.store.read("report.html").decode()


def summary_of(run: Any) -> dict[str, Any]:
    return json.loads(run.ws.store.read("summary.json"))


@pytest.fixture(scope="module")
def reported(finished: Any) -> Any:
    report(finished.uri, finished.state.model_dump_json())
    return finished


def test_summary_follows_its_published_schema_and_repeats_the_metrics(reported: Any):
    found = summary_of(reported)
    jsonschema.validate(found, SCHEMA)
    assert [stage["name"] for stage in found["stages"]] == ["base", "sft", "iteration-1", "iteration-2"]
    assert found["best"] == reported.state.best.stage and found["seed"] == 7 and found["model_version"] is None
    metrics = json.loads(reported.ws.store.read("evaluate/test/sft/metrics.json"))
    assert found["stages"][1]["test"]["macro"] == metrics["macro_accuracy"]
    assert found["stages"][1]["test"]["verticals"]["mug"] == metrics["verticals"]["mug"]["accuracy"]


def test_the_summary_shows_every_metric_that_names_itself_for_it(reported: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METRICS, "off_list_rate", replace(METRICS["off_list_rate"], summary="off_list"))
    sft = summary(Results.of(reported.uri))["stages"][1]
    metrics = json.loads(reported.ws.store.read("evaluate/test/sft/metrics.json"))
    assert sft["test"]["off_list"] == metrics["off_list_rate"] and sft["test"]["macro"] == metrics["macro_accuracy"]


def test_the_summary_of_a_run_that_started_from_an_adapter_follows_the_schema_too(tmp_path: Path):
    run = make_run(tmp_path, accuracy={"base": 0.3, "start": 0.6, "iteration-1": 0.85})
    report(run.uri, run.state)
    found = summary_of(run)
    jsonschema.validate(found, SCHEMA)
    assert [stage["name"] for stage in found["stages"]] == ["base", "start", "iteration-1"]


def test_summary_counts_the_rows_that_were_trained_on(reported: Any):
    rows = pl.read_parquet(Path(reported.uri) / "iteration-1/pairs/pairs.parquet")
    stage = summary_of(reported)["stages"][2]
    assert stage["pairs"] == rows["rejected"].is_not_null().sum() > 0
    assert stage["anchors"] == rows["rejected"].is_null().sum() > 0


def test_minutes_are_those_of_the_stages_and_their_evaluations(reported: Any):
    found = summary_of(reported)
    assert found["stages"][0]["minutes"] == pytest.approx(12 / 60)  # two evaluations
    assert found["stages"][1]["minutes"] == pytest.approx((24 + 12) / 60)
    assert found["minutes"] == pytest.approx(
        sum(stage["minutes"] for stage in found["stages"]) + 3 / 60, abs=0.01
    )  # and annotate


def test_page_is_one_small_file_without_script_or_network(reported: Any):
    page = page_of(reported)
    assert len(page) < 3_000_000
    assert "<script" not in page and "@import" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:image/jpeg;base64,)""", page)
    assert not re.findall(r"url\(", page)


def test_page_opens_with_the_result_in_one_sentence(reported: Any):
    results = Results.of(reported.uri)
    words = headline(results)
    gain = results.gain.macro
    assert words in page_of(reported)
    assert (
        f"{results.shown['sft'].macro_accuracy:.1%} (SFT)" in words
        and f"interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}" in words
    )
    ups = sum(
        results.shown[results.best].verticals[v].accuracy > results.shown["sft"].verticals[v].accuracy
        for v in results.gain.verticals
    )
    assert f"{ups} of 3 up" in words


def test_sentence_tells_when_no_iteration_beat_supervised_training(finished: Any):
    outcomes = (Outcome(stage="base", adapter="", macro=0.9), Outcome(stage="sft", adapter="sft/adapter", macro=0.8))
    after = Outcome(stage="iteration-1", adapter="iteration-1/dpo/adapter", macro=0.7)
    assert headline(Results(finished.ws, LoopState(outcomes=(*outcomes, after)))).startswith(
        "No iteration beat SFT on validation"
    )


def test_sentence_tells_a_fall_and_a_standstill(finished: Any):
    low = Outcome(stage="sft", adapter="sft/adapter", macro=0.1)
    fallen = Results(finished.ws, LoopState(outcomes=(low, Outcome(stage="base", adapter="made-up", macro=0.9))))
    assert "macro accuracy fell from" in headline(fallen) and "0 of 3 up; the gain is -" in headline(fallen)
    shutil.copytree(Path(finished.uri) / "evaluate/test/sft", Path(finished.uri) / "evaluate/test/iteration-9")
    still = Results(finished.ws, LoopState(outcomes=(low, Outcome(stage="iteration-9", adapter="made-up", macro=0.9))))
    assert "macro accuracy stayed at" in headline(still)
    shutil.rmtree(Path(finished.uri) / "evaluate/test/iteration-9")


def test_table_has_every_vertical_and_marks_only_sure_changes(reported: Any):
    rows = panels.vertical_rows(Results.of(reported.uri))
    assert [row.name for row in rows] == ["chair", "lamp", "mug", "macro"]
    for row in rows:
        assert ("sure" in row.verdict) == (row.gain.low > 0 or row.gain.high < 0)


def test_what_can_be_published_is_told_by_the_agreement_of_the_chains_sampled_last():
    def bins(*labelled_and_right: tuple[int, int]) -> dict[str, Any]:
        return {
            "agreement": [
                {"from": k / 10, "to": (k + 1) / 10, "labelled": n, "right": r}
                for k, (n, r) in enumerate(labelled_and_right)
            ]
        }

    def fraction(*reports: dict[str, Any]) -> float | None:
        stages = {f"iteration-{k}": found for k, found in enumerate(reports, 1)}
        results: Any = SimpleNamespace(
            stages=["sft", "iteration-1", "iteration-2"], mining=lambda stage: stages.get(stage, {})
        )
        return panels.publishable(results)

    good, fair = bins((10, 0), (20, 18), (70, 70)), bins((40, 39), (20, 10), (40, 39))
    assert fraction(good) == 0.9 and fraction(good, fair) == 0.4, (
        "a bin that is right below one that is not does not count"
    )
    assert fraction(bins((5, 0))) == 0.0 and fraction(bins((0, 0))) is None and fraction() is None


def test_printed_table_holds_every_vertical_and_stage(reported: Any):
    console = PlainConsole(record=True, width=160, file=io.StringIO())
    print_table(reported.uri, console)
    text = console.export_text()
    assert all(word in text for word in ("chair", "lamp", "mug", "macro", "Base", "SFT", "Iteration 2 - SFT"))
    assert f"{100 * Results.of(reported.uri).shown['iteration-2'].macro_accuracy:.1f}" in text


def test_examples_say_what_the_stages_answered(reported: Any):
    results = Results.of(reported.uri)
    chosen = examples(results, 12)
    shown = [example for kind in chosen.values() for example in kind]
    assert 6 <= len(shown) <= 12 and len({example.listing for example in shown}) == len(shown)
    for example in shown:
        for stage, answer, right in example.answers:
            row = results.predictions[stage].row(
                by_predicate=(pl.col("listing") == example.listing) & (pl.col("attribute") == example.attribute),
                named=True,
            )
            assert (answer, right) == (row["answer"] or "off-list", row["answer"] == row["gold"])
    verdicts = {
        kind: {
            (dict((s, r) for s, _, r in e.answers)["sft"], dict((s, r) for s, _, r in e.answers)[results.best])
            for e in chosen[kind]
        }
        for kind in chosen
    }
    assert (
        verdicts["gained"] == {(False, True)}
        and verdicts["wrong"] <= {(False, False)}
        and verdicts["lost"] <= {(True, False)}
    )


def test_examples_carry_their_own_image_bounded(reported: Any):
    picture = re.search(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page_of(reported))
    assert picture
    assert max(Image.open(io.BytesIO(base64.b64decode(picture[1]))).size) <= 168


def test_same_run_gives_the_same_files(reported: Any):
    before = page_of(reported), summary_of(reported)
    report(reported.uri, reported.state.model_dump_json())
    assert (page_of(reported), summary_of(reported)) == before


def test_a_run_cut_short_before_test_is_reported_on_validation(make: Callable[..., Any]):
    run = make(verticals=2, per_vertical=12, gold=4, examples=4)
    run.ws.store.remove("evaluate/test")
    run.ws.store.remove("evaluate/validation/iteration-2")
    assert report(run.uri) == f"{run.uri}/report.html"
    found = summary_of(run)
    jsonschema.validate(found, SCHEMA)
    assert [stage["name"] for stage in found["stages"]] == ["base", "sft", "iteration-1"]
    assert found["stages"][1]["test"] is None
    assert "On validation, macro accuracy" in page_of(run)


def test_a_run_without_iterations_is_reported(make: Callable[..., Any]):
    run = make(verticals=1, per_vertical=12, gold=4, examples=4)
    state = LoopState(outcomes=run.state.outcomes[:2])
    report(run.uri, state.model_dump_json())
    jsonschema.validate(summary_of(run), SCHEMA)
    assert "No iteration beat SFT" in page_of(run) and "What each iteration learnt from" not in page_of(run)


def test_text_of_models_and_of_other_components_is_escaped(make: Callable[..., Any]):
    run = make(verticals=1, per_vertical=12, gold=4, examples=8)
    path = Path(run.uri) / "evaluate/test/iteration-2/predictions.parquet"
    pl.read_parquet(path).with_columns(text=pl.lit("<script>alert(1)</script> Answer: red")).write_parquet(path)
    finish_again(run.ws.store, "evaluate/test/iteration-2")
    run.ws.store.write(
        "promote/result.json", json.dumps({"action": "refused", "reason": "<b>too few</b> gold labels"}).encode()
    )
    run.ws.store.write("register/result.json", json.dumps({"model_version": 4}).encode())
    report(run.uri, run.state.model_dump_json())
    page = page_of(run)
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page
    assert "refused, &lt;b&gt;too few&lt;/b&gt; gold labels" in page
    assert summary_of(run)["model_version"] == 4


def test_labels_that_are_fewer_than_asked_for_are_told_with_what_to_do(make: Callable[..., Any]):
    run = make(verticals=1, per_vertical=12, gold=4, examples=4)
    report(run.uri, run.state.model_dump_json())
    assert "<h2>Labels</h2>" not in page_of(run), "an older version told nothing"
    short = {"attribute": "colour", "split": "test", "wanted": 20, "labels": 4, "listings": 1234}
    told = {
        "short": [short | {"vertical": "<mug>"}, short | {"vertical": "mug", "split": "validation", "labels": 0}],
        "remedy": "Add listings",
        "given_surplus": 3,
        "given_reviewed": 0,
        "given_mixed": ["mug-7"],
    }
    run.ws.store.write("annotate/report.json", json.dumps(told).encode())
    report(run.uri, run.state.model_dump_json())
    rows = re.findall(r"<tr><td>(.*?)</tr>", page_of(run)[page_of(run).index("<h2>Labels</h2>") :])
    cells = [[re.sub(r"<.*?>", "", cell) for cell in row.split("</td>")[:6]] for row in rows[:2]]
    assert cells == [
        ["&lt;mug&gt;", "colour", "test", "4", "20", "1,234"],
        ["mug", "colour", "validation", "0", "20", "1,234"],
    ]
    assert "2 of 6 counts are not reached" in page_of(run) and "too few listings. Add listings.</p>" in page_of(run)
    assert "are not used, because the counts are reached: 3." in page_of(run) and "from a review" not in page_of(run)
    assert "Gold listings that comparisons leave out, because they share photographs with another split: 1." in page_of(
        run
    )


def test_unlabelled_listings_of_the_gold_splits_are_told_apart(make: Callable[..., Any]):
    run = make(verticals=1, per_vertical=24, gold=4, examples=4)
    report(run.uri, run.state.model_dump_json())
    assert "<dd>14 to learn from</dd>" in page_of(run)
    names = list(run.ws.listings)
    write_splits(
        run.ws, {name: "train" if k < 15 else "validation" if k < 20 else "test" for k, name in enumerate(names)}
    )
    report(run.uri, run.state.model_dump_json())
    assert "<dd>13 to learn from, 1 of the gold splits, which nothing is learnt from</dd>" in page_of(run)
    assert "13 without a label to learn from" in page_of(run)


def test_an_image_that_is_gone_leaves_a_gap_not_a_failure(make: Callable[..., Any], tmp_path: Path):
    run = make(verticals=1, per_vertical=12, gold=4, examples=4)
    shutil.rmtree(tmp_path / "images")
    report(run.uri, run.state.model_dump_json())
    assert "image cannot" in page_of(run)


def test_a_champion_that_was_judged_by_appears_in_the_flip_ledger(make: Callable[..., Any]):
    run = make(verticals=1, per_vertical=12, gold=4, examples=4)
    shutil.copytree(Path(run.uri) / "evaluate/test/sft", Path(run.uri) / "evaluate/test/champion-3")
    *_, (before, after, _) = Results.of(run.uri, run.state.model_dump_json()).flips
    assert (before, after) == ("champion-3", run.state.best.stage)


def test_big_schemas_leave_confusions_out_and_say_so(finished: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(confusions, "_CELLS", 100)
    report(finished.uri, finished.state.model_dump_json())
    kept = len(list(confusions.confusions(Results.of(finished.uri))))
    assert 0 < kept < 6
    assert f"{6 - kept} further attributes are in metrics.json" in page_of(finished)


def test_an_unfinished_run_says_what_to_do(make: Callable[..., Any]):
    run = make(verticals=1, per_vertical=12, gold=4, examples=4)
    run.ws.store.remove("evaluate/validation/sft")
    with pytest.raises(InputError, match="evaluate/validation/sft: this stage was not evaluated"):
        report(run.uri, run.state.model_dump_json())
    run.ws.store.remove("evaluate")
    with pytest.raises(InputError, match="no trained stage was evaluated yet"):
        report(run.uri)


def test_report_and_summary_are_added_to_the_tracked_run(runs: Path, tmp_path: Path):
    run = make_run(runs)
    register(run.uri, run.state)
    write_report(run.uri, run.state, str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_text() == page_of(run)
    parent = json.loads(run.ws.store.read("register/result.json"))["parent_run"]
    names = {file.path for file in MlflowClient(f"sqlite:///{runs}/mlflow.db").list_artifacts(parent)}
    assert {"report.html", "summary.json", "config.json", "state.json", "annotate"} <= names


def test_a_run_that_was_not_registered_is_reported_all_the_same(make: Callable[..., Any], tmp_path: Path):
    run = make(verticals=1, per_vertical=12, gold=4, examples=4)
    write_report(run.uri, run.state.model_dump_json(), str(tmp_path / "page.html"))
    assert "macro accuracy" in (tmp_path / "page.html").read_text()

import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest
from kfp import dsl
from mlflow import MlflowClient

from attrloop.components.catalogue.records import Prediction, to_frame
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.evaluate_test.evaluate_all import evaluate_all
from attrloop.components.promote import promote as module
from attrloop.components.promote.challenge import evaluate_champion
from attrloop.components.promote.champion import alias
from attrloop.components.promote.gate import judge
from attrloop.components.promote.ledger import Entry, Ledger, Verdict
from attrloop.components.promote.promote import promote, rollback, settle, show
from attrloop.components.register_adapter.register import register
from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import PromoteConfig
from attrloop.components.run.state import LoopState
from attrloop.components.storage.opening import open_store
from attrloop.components.tracking.server import connect
from tests.stores import finish_again
from tests.tracked import VERTICALS, Run, answers, evaluate, give_history, make_run

NAME = "attribute-adapter"


def uri_of(runs: Path) -> str:
    return f"sqlite:///{runs}/mlflow.db"


def ledger_of(runs: Path) -> Ledger:
    return Ledger(open_store(str(runs)), NAME)


def champion_of(uri: str, name: str = NAME) -> str | None:
    return alias(MlflowClient(uri, uri), name)


def versions(client: MlflowClient, count: int, name: str = NAME) -> list[str]:
    """Versions that stand for nothing but their numbers."""
    client.create_registered_model(name)
    return [str(client.create_model_version(name, source=f"s3://models/{k}").version) for k in range(count)]


def make_no_better_run(runs: Path) -> Run:
    """A run whose iteration looked better on validation and is not on test."""
    run = make_run(runs)
    evaluate(run.ws, "iteration-1", "test", run.ws.labels("test"), 0.6, seed=1)
    return run


def passing(reason: str = "better") -> Verdict:
    return Verdict(passed=True, reason=reason, against="test")


def result(run: Run) -> dict:
    return json.loads(run.ws.store.read("promote/result.json"))


def test_the_first_candidate_that_beats_supervised_training_becomes_champion(runs: Path) -> None:
    run = make_run(runs)
    register(run.uri, run.state)
    assert promote(run.uri, run.state) == "first"
    assert champion_of(uri_of(runs)) == "1"
    (entry,) = ledger_of(runs).entries()
    assert (entry.action, entry.before, entry.after, entry.version) == ("promote", None, "1", "1")
    assert entry.data_digest == run.ws.data_digest and entry.actor and entry.time and entry.verdict is not None
    assert result(run) | {"reason": "", "macro": {}} == {
        "action": "first", "version": 1, "champion": 1, "reason": "", "against": "sft", "macro": {},
        "left_out": None, "unknown": [], "ledger_entry": 1,
    }  # fmt: skip
    low, high = result(run)["macro"]["interval"]
    assert 0 < low < result(run)["macro"]["delta"] < high
    written = json.loads(next((runs / "promotions").rglob("*.json")).read_text())
    assert written["from"] is None and written["to"] == "1"


def test_without_iterations_supervised_training_is_compared_with_the_base(runs: Path) -> None:
    run = make_run(runs, accuracy={"base": 0.3, "sft": 0.7})
    register(run.uri, run.state)
    assert promote(run.uri, run.state) == "first"
    assert result(run)["against"] == "base"


def test_a_refusal_is_on_record_and_leaves_no_champion(runs: Path) -> None:
    run = make_no_better_run(runs)
    register(run.uri, run.state)
    assert promote(run.uri, run.state) == "refused"
    assert champion_of(uri_of(runs)) is None
    (entry,) = ledger_of(runs).entries()
    assert (entry.action, entry.before, entry.after, entry.version) == (
        "refuse",
        None,
        None,
        "1",
    ) and "not significant" in entry.reason
    assert (
        result(run)["champion"] is None
        and "refuse" in MlflowClient(uri_of(runs)).get_model_version(NAME, "1").tags["promotion"]
    )


def test_too_few_gold_labels_are_a_refusal_that_says_so(runs: Path) -> None:
    run = make_run(runs, promote=PromoteConfig(min_gold=31))
    register(run.uri, run.state)
    assert promote(run.uri, run.state) == "refused"
    assert "too few gold labels" in result(run)["reason"] and result(run)["macro"] is None


@pytest.mark.parametrize(("make", "outcome"), [(make_run, "first"), (make_no_better_run, "refused")])
def test_promoting_again_makes_no_second_entry(runs: Path, make: Callable[[Path], Run], outcome: str) -> None:
    run = make(runs)
    register(run.uri, run.state)
    assert promote(run.uri, run.state) == outcome
    shutil.rmtree(Path(run.uri, "promote"))
    assert promote(run.uri, run.state) == outcome
    assert len(ledger_of(runs).entries()) == 1


def test_killed_between_ledger_and_alias_the_next_call_shows_the_champion(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(runs)
    register(run.uri, run.state)
    with monkeypatch.context() as patch:
        patch.setattr(module, "show", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            promote(run.uri, run.state)
    assert champion_of(uri_of(runs)) is None and len(ledger_of(runs).entries()) == 1
    assert promote(run.uri, run.state) == "first"
    assert champion_of(uri_of(runs)) == "1" and len(ledger_of(runs).entries()) == 1


def test_a_champion_of_this_very_run_is_judged_by_the_predictions_that_are_there(runs: Path) -> None:
    run = make_run(runs)
    sft = LoopState(outcomes=LoopState.model_validate_json(run.state).outcomes[:2]).model_dump_json()
    assert (register(run.uri, sft), promote(run.uri, sft)) == ("1", "first")
    assert (register(run.uri, run.state), promote(run.uri, run.state)) == ("2", "promoted")
    assert result(run)["against"] == "version 1" and champion_of(uri_of(runs)) == "2"


def test_a_champion_in_mlflow_from_before_the_ledger_is_respected(runs: Path) -> None:
    client = connect(uri_of(runs))
    one, two = versions(client, 2)
    client.set_registered_model_alias(NAME, "champion", one)
    seen: list[str | None] = []

    def judged(champion: str | None) -> Verdict:
        seen.append(champion)
        return Verdict(passed=False, reason="no better", against="version 1")

    entry = settle(ledger_of(runs), client, two, gate="gate", verdict_on=judged)
    assert seen == [one] and (entry.before, entry.after) == (one, one)
    assert show(ledger_of(runs), client) == one == champion_of(uri_of(runs))


def test_an_alias_that_was_moved_by_hand_is_put_back(runs: Path) -> None:
    client = connect(uri_of(runs))
    one, two = versions(client, 2)
    settle(ledger_of(runs), client, one, gate="gate", verdict_on=lambda _: passing())
    client.set_registered_model_alias(NAME, "champion", two)
    assert show(ledger_of(runs), client) == one == champion_of(uri_of(runs))


def test_a_promoter_that_was_overtaken_while_setting_the_alias_does_not_leave_it_stale(runs: Path) -> None:
    client = connect(uri_of(runs))
    one, two = versions(client, 2)

    class Overtaken(MlflowClient):
        """Another promoter acts just before this one's first request to set the alias arrives."""

        done = False

        def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
            if not self.done:
                self.done = True
                settle(ledger_of(runs), client, two, gate="gate", verdict_on=lambda _: passing())
                show(ledger_of(runs), client)
            super().set_registered_model_alias(name, alias, version)

    settle(ledger_of(runs), client, one, gate="gate", verdict_on=lambda _: passing())
    assert show(ledger_of(runs), Overtaken(uri_of(runs))) == two == champion_of(uri_of(runs))


def test_an_entry_is_never_written_twice(runs: Path) -> None:
    ledger = ledger_of(runs)
    row = {
        "seq": 1,
        "model": NAME,
        "action": "promote",
        "version": "1",
        "from": None,
        "to": "1",
        "reason": "r",
        "actor": "a",
        "time": "t",
    }
    barrier = Barrier(12)

    def append(k: int) -> bool:
        barrier.wait()
        return ledger.append(Entry.model_validate({**row, "actor": str(k)}))

    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(append, range(12)))
    assert sum(won) == 1
    assert ledger.entries()[0].actor == str(won.index(True))


@pytest.mark.parametrize("where", ["embedded", "bucket", pytest.param("server", marks=pytest.mark.slow)])
def test_of_concurrent_promoters_the_best_model_wins_and_every_step_was_judged(
    runs: Path, where: str, request: pytest.FixtureRequest
) -> None:
    uri = request.getfixturevalue("server") if where == "server" else uri_of(runs)
    root = request.getfixturevalue("bucket") if where == "bucket" else str(runs)
    client, run = connect(uri), make_run(runs, gold=40, accuracy={"base": 0.1, "sft": 0.2})
    names, fractions = versions(client, 12, "contended"), [0.1 + 0.07 * ((5 * k) % 12) for k in range(12)]
    gold = run.ws.labels("test")
    frames: dict[str | None, pl.DataFrame] = {
        v: to_frame(answers(gold, run.ws, fraction, 0), Prediction)
        for v, fraction in zip(names, fractions, strict=True)
    }
    frames[None] = to_frame(answers(gold, run.ws, 0.02, 0), Prediction)
    barrier = Barrier(12)

    def contend(version: str) -> None:
        mine = connect(uri)
        barrier.wait()
        ledger = Ledger(open_store(root), "contended")
        config = PromoteConfig(resamples=200)
        settle(
            ledger,
            mine,
            version,
            gate="gate",
            verdict_on=lambda champion: judge(
                frames[version], frames[champion], against=str(champion), verticals=VERTICALS, config=config, seed=0
            ),
        )
        show(ledger, mine)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(contend, names))
    entries = Ledger(open_store(root), "contended").entries()
    assert [entry.seq for entry in entries] == list(range(1, 13)) and sorted(e.version for e in entries) == sorted(
        names
    )
    assert [entry.before for entry in entries] == [None, *(entry.after for entry in entries[:-1])], (
        "each was judged against the champion of its time"
    )
    best = names[fractions.index(max(fractions))]
    assert entries[-1].after == best == champion_of(uri, "contended")


def test_rolling_back_is_another_entry_and_sticks(runs: Path) -> None:
    run = make_run(runs)
    sft = LoopState(outcomes=LoopState.model_validate_json(run.state).outcomes[:2]).model_dump_json()
    for state in (sft, run.state):
        register(run.uri, state)
        promote(run.uri, state)
    entry = rollback(run.uri, reason="complaints about rugs", who="Ada")
    assert (entry.action, entry.before, entry.after, entry.actor, entry.reason) == (
        "rollback",
        "2",
        "1",
        "Ada",
        "complaints about rugs",
    )
    assert champion_of(uri_of(runs)) == "1" and [e.action for e in ledger_of(runs).entries()] == [
        "promote",
        "promote",
        "rollback",
    ]
    shutil.rmtree(Path(run.uri, "promote"))
    promote(run.uri, run.state)
    assert champion_of(uri_of(runs)) == "1", "the run that was rolled back does not promote itself again"
    assert rollback(run.uri, to="1").seq == entry.seq, "it is the champion already"
    assert rollback(run.uri, to="2").after == "2" == champion_of(uri_of(runs))


def test_a_person_may_make_champion_what_the_gate_refused(runs: Path) -> None:
    run = make_no_better_run(runs)
    register(run.uri, run.state)
    assert promote(run.uri, run.state) == "refused"
    entry = rollback(run.uri, to="1", reason="good enough for rugs", who="Ada")
    assert (entry.action, entry.before, entry.after, entry.actor) == ("rollback", None, "1", "Ada") and champion_of(
        uri_of(runs)
    ) == "1"


def test_rolling_back_to_nothing_is_explained(runs: Path) -> None:
    run = make_run(runs)
    with pytest.raises(AttrloopError, match="no champion"):
        rollback(run.uri)
    register(run.uri, run.state)
    promote(run.uri, run.state)
    with pytest.raises(AttrloopError, match="replaced no other"):
        rollback(run.uri)
    with pytest.raises(AttrloopError, match="no version 9"):
        rollback(run.uri, to="9")


@pytest.mark.parametrize("why", ["none", "left out"])
def test_a_run_without_test_gold_is_registered_and_refused_and_shows_no_results_of_other_gold(
    runs: Path, why: str
) -> None:
    run = make_run(runs)
    gold = [label for label in run.ws.labels("test") if why == "left out"]
    rows = [*run.ws.labels("validation"), *gold]
    labels = Artifact(run.ws.store, layout.ANNOTATE, {"labels": why})
    (labels.folder / layout.LABELS_FILE).write_text("".join(row.model_dump_json() + "\n" for row in rows))
    labels.finish("labels", {}, [layout.LABELS_FILE])
    if gold:
        give_history(run.ws, {"trained": [label.listing for label in gold], "chosen": []})
    evaluate_all(run.uri, run.state, dsl.Metrics(), dsl.ClassificationMetrics())
    assert register(run.uri, run.state) == "1" and promote(run.uri, run.state) == "refused"
    assert Results.of(run.uri, run.state).splits == ["validation"]
    assert "test_macro_accuracy" not in MlflowClient(uri_of(runs)).get_model_version(NAME, "1").tags
    left_out = r"45 of 45 gold listings are left out \(.*\(all in left-out/listings.jsonl\). Label new listings"
    none = r"none of the \d+ listings of split 'test' has a label that may be gold. Give labels with split: test"
    assert re.match(f"there is no gold to compare by: {left_out if gold else none}", result(run)["reason"])


def test_verdict_and_report_name_the_same_ancestors_of_unknown_history(runs: Path) -> None:
    run = make_run(runs)
    (Path(run.uri) / "iteration-1" / "dpo" / layout.LEARNT).unlink()  # as an earlier version left it
    finish_again(run.ws.store, "iteration-1/dpo")
    register(run.uri, run.state)
    promote(run.uri, run.state)
    assert list(Results.of(run.uri, run.state).unknown) == result(run)["unknown"] == ["run/iteration-1"]


def test_what_is_missing_is_named(runs: Path) -> None:
    run = make_run(runs)
    with pytest.raises(InputError, match="register before promote"):
        promote(run.uri, run.state)
    register(run.uri, run.state)
    connect(uri_of(runs)).delete_registered_model(NAME)
    with pytest.raises(AttrloopError, match="no version 1 of attribute-adapter"):
        promote(run.uri, run.state)
    run.ws.store.remove("evaluate/test/sft")
    with pytest.raises(InputError, match="evaluate/test/sft: not finished"):
        promote(run.uri, run.state)


def test_a_champion_that_is_gone_keeps_nothing_from_being_registered(runs: Path) -> None:
    first = make_run(runs, "first")
    register(first.uri, first.state)
    promote(first.uri, first.state)
    connect(uri_of(runs)).delete_model_version(NAME, "1")
    second = make_run(runs, "second", seed=1)
    evaluate_champion(second.uri, second.state)
    assert register(second.uri, second.state) == "2"
    with pytest.raises(
        AttrloopError, match=r"version 1 of attribute-adapter, the champion, is no longer registered.*rollback RUN --to"
    ):
        promote(second.uri, second.state)
    assert rollback(second.uri, to="2", reason="version 1 is gone").after == "2" == champion_of(uri_of(runs))

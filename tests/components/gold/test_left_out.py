"""The gold that a run leaves out of its comparisons."""

from pathlib import Path

import polars as pl

from attrloop.components.gold.learnt import COLUMNS, write_record
from attrloop.components.gold.left_out import judged_by, left_out, omissions
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.workspace import Workspace
from tests.tracked import make_run

# Of tests.tracked: even numbers are validation, odd ones are test.
TRAINED = ("rug-0", "rug-1", "rug-3")
CHOSEN = ("rug-2", "rug-5")


def started(folder: Path) -> Workspace:
    """A run that starts from an adapter that has learnt from some of its gold, as a drifting split made it."""
    ws = make_run(folder, accuracy={"base": 0.3}, gold=4).ws
    artifact = Artifact(ws.store, "start", {"origin": "models:/m/1"})
    rows = [(listing, "trained", None) for listing in TRAINED] + [(listing, "chosen", None) for listing in CHOSEN]
    write_record(artifact.folder / "learnt.parquet", [pl.LazyFrame(rows, schema=COLUMNS, orient="row")], [])
    artifact.finish("adapter", {}, ["learnt.parquet"])
    return ws


def test_test_gold_must_be_new_to_every_ancestor_and_validation_may_choose_again(tmp_path: Path) -> None:
    ws = started(tmp_path)
    found = {(row.split, row.listing, row.reason) for row in left_out(ws)}
    assert found == {
        ("test", "rug-1", "trained"),
        ("test", "rug-3", "trained"),
        ("test", "rug-5", "chosen"),
        ("validation", "rug-0", "trained"),
    }
    kept = {label.listing for label in judged_by(ws, "test")}
    assert len(kept) == 3 * 4 - 3 and not kept & {"rug-1", "rug-3", "rug-5"}
    assert len({label.listing for label in judged_by(ws, "validation")}) == 3 * 4 - 1


def test_what_is_left_out_is_summed_up_in_words(tmp_path: Path) -> None:
    ws = started(tmp_path)
    assert omissions(ws) == {}, "not looked for yet"
    left_out(ws)
    found = omissions(ws)
    assert found["test"].text == "3 of 12 gold listings left out (2 trained on, 1 chosen by): rug-1, rug-3, rug-5"
    assert (found["validation"].listings, found["validation"].of) == (1, 12)


def test_a_run_without_an_earlier_adapter_leaves_nothing_out(tmp_path: Path) -> None:
    ws = make_run(tmp_path, accuracy={"base": 0.3}, gold=2).ws
    assert left_out(ws) == [] and len(judged_by(ws, "test")) == 3 * 2 * 2


def test_it_is_found_again_when_labels_change(tmp_path: Path) -> None:
    ws = started(tmp_path)
    left_out(ws)
    artifact = Artifact(ws.store, "annotate", {"labels": "others"})
    (artifact.folder / "labels.jsonl").write_text(
        '{"listing":"rug-2","attribute":"trim","value":"red","split":"test"}\n'
    )
    artifact.finish("labels", {}, ["labels.jsonl"])
    assert [(row.listing, row.reason) for row in left_out(ws)] == [("rug-2", "chosen")]
    assert judged_by(ws, "test") == []

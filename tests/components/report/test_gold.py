"""What the page and the last lines of a run say of gold that is left out, and of photographs that are shared."""

import shutil
from pathlib import Path

import pytest

from attrloop.components.console import PlainConsole
from attrloop.components.gold.left_out import left_out
from attrloop.components.gold.splits import ensure_splits
from attrloop.components.report.gold import shared_photographs
from attrloop.components.report.report import report
from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.pipelines.cli.launch import results
from tests.tracked import Run, give_history, make_run, train


@pytest.fixture
def continued(tmp_path: Path) -> Run:
    """A run that starts from an adapter of unknown ancestors, which has learnt from some of its gold."""
    run = make_run(tmp_path, accuracy={"base": 0.3, "start": 0.6, "iteration-1": 0.8}, gold=60)
    trained = [f"rug-{k}" for k in range(1, 120, 2)] + ["Café mug-0"]
    give_history(run.ws, {"trained": trained, "chosen": ["Café mug-7"]}, ("models:/m/3",))
    run.ws.store.write(layout.STATE, run.state.encode())
    train(run.ws, "iteration-1/dpo", "", 0, "start/adapter")
    left_out(run.ws)
    return run


def test_the_page_counts_and_names_what_is_left_out(continued: Run) -> None:
    report(continued.uri)
    page = continued.ws.store.read("report.html").decode()
    assert (
        "On test, 61 of 180 gold listings are left out (60 already trained on, 1 already used to choose): Café" in page
    )
    assert "On validation, 1 of 180 gold listings are left out (1 already trained on): Café mug-0." in page
    assert "It is not known what models:/m/3 learnt from" in page
    assert page.count('<td class="left">already trained on</td>') == 49, "the first of them by name"
    assert f"12 more are in {continued.uri}/left-out/listings.jsonl" in page


def test_a_run_ends_with_a_line_on_what_is_left_out(continued: Run, capsys: pytest.CaptureFixture[str]) -> None:
    results(continued.uri, PlainConsole(width=100))
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("gold ")]
    assert len(told) == 3 and told[0].startswith("gold      On test, 61 of 180 gold listings are left out")


def test_a_run_without_ancestors_says_nothing_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    run.ws.store.write(layout.STATE, run.state.encode())
    left_out(run.ws)
    report(run.uri)
    results(run.uri, PlainConsole(width=100))
    assert "Gold that is left out" not in run.ws.store.read("report.html").decode()
    assert "gold " not in capsys.readouterr().out


def test_the_groups_of_listings_that_share_photographs_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, accuracy={"base": 0.3})
    assert shared_photographs(Results.of(run.uri, run.state)) == "", "an earlier version made no splits"
    for copy in ("0-1", "0-2", "1-1"):
        shutil.copy(tmp_path / f"{copy[0]}-0.png", tmp_path / f"{copy}.png")
    ensure_splits(run.ws)
    found = shared_photographs(Results.of(run.uri, run.state))
    assert found == "5 listings share photographs, in 2 groups; the largest has 3"

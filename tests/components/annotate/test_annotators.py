"""Another annotator than the OpenAI endpoint: a class and a name are all it takes."""

import json
from collections.abc import Callable

import pytest

from attrloop.components.annotate.annotate import annotate
from attrloop.components.annotate.annotator import Answer, Readiness
from attrloop.components.annotate.annotators import ANNOTATORS
from attrloop.components.annotate.request import Request
from attrloop.components.errors import InputError
from attrloop.components.preflight.check import examine
from attrloop.components.run.config import AnnotateConfig
from tests.components.annotate.shop import labels_of, report_of

TABLE: dict[str, dict[str, str | list[str]]] = {
    "mug": {"main pattern": "stripy", "colours": ["green", "red"]},
    "lamp": {"shape": "square"},
}


class TableAnnotator:
    """Answers what a table says of the vertical, and refuses the first mug that it is asked about."""

    asked: list[Request]

    def __init__(self, config: AnnotateConfig) -> None:
        self.attempts = 0

    def check(self) -> Readiness:
        return Readiness("a table of two verticals", doubtful=True)

    def ask(self, request: Request, again: Callable[[], bool]) -> Answer:
        self.attempts += 1
        self.asked.append(request)
        reply = {
            name: {"rationale": "The table says so.", "value": value}
            for name, value in TABLE[request.listing.vertical].items()
        }
        first_mug = [r.key for r in self.asked if r.listing.vertical == "mug"] == [request.key]
        text = "I never answer about the first mug." if first_mug else json.dumps(reply)
        return Answer(text, "unwilling" if first_mug else "", prompt_tokens=7, completion_tokens=3, cost=0.25)

    def close(self) -> None:
        self.attempts = -1  # nothing may ask it from here on


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableAnnotator, "asked", [], raising=False)
    monkeypatch.setitem(ANNOTATORS, "table", TableAnnotator)
    monkeypatch.delenv("ANNOTATOR_KEY")


def test_an_annotator_with_a_name_labels_from_end_to_end(shop, endpoint):
    uri = shop.workspace(provider="table", concurrency=1)
    annotate(uri)
    assert {(label["attribute"], label["value"]) for label in labels_of(uri)} == {
        ("main pattern", "striped"),
        ("colours", "red; green"),
        ("shape", "square"),
    }
    assert all(
        label["rationale"] == "The table says so." and label["cost"] in (0.125, 0.25) for label in labels_of(uri)
    )
    report = report_of(uri)
    assert (report["calls"], report["failed"], report["cost"]) == (9, 1, 9 * 0.25)
    assert report["failures"][0]["why"] == "unwilling: I never answer about the first mug."
    assert report["tokens"] == {"prompt": 63, "completion": 27} and not endpoint.bodies
    request = TableAnnotator.asked[-1]
    assert request.pictures[0].startswith(b"\xff\xd8") and "- round" in TableAnnotator.asked[1].text


def test_its_answers_are_cached_beside_those_of_others_and_the_budget_holds(shop):
    uri = shop.workspace(provider="table", concurrency=1, max_cost=3.0)
    annotate(uri)
    shop.workspace(provider="table", concurrency=1, max_cost=3.0, train_per_vertical=4)
    annotate(uri)
    assert len(TableAnnotator.asked) == 12, "3 US dollars pay for 12 requests at 0.25, the dearest so far"
    assert report_of(uri)["stopped_at"] == "annotate.max_cost"


def test_replies_of_one_annotator_are_not_taken_for_those_of_another(shop, endpoint, monkeypatch):
    monkeypatch.setenv("ANNOTATOR_KEY", "sk-secret-123")
    uri = shop.workspace()
    annotate(uri)
    shop.workspace(provider="table")
    annotate(uri)
    assert len(endpoint.bodies) == 8 and len(TableAnnotator.asked) == 9


def test_preflight_asks_the_annotator_itself_whether_it_is_ready(shop):
    finding = next(f for f in examine(shop.config(provider="table")).findings if f.name == "annotator")
    assert (finding.state, finding.detail) == ("note", "a table of two verticals")


def test_a_name_that_no_annotator_has_is_an_error_that_lists_them(shop):
    message = r"annotate.provider: there is no annotator 'tabel'. Use one of: openai, table."
    with pytest.raises(InputError, match=message):
        annotate(shop.workspace(provider="tabel"))
    finding = next(f for f in examine(shop.config(provider="tabel")).findings if f.name == "annotator")
    assert message.replace("\\", "") in str(finding.problems[0])

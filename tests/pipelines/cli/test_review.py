"""`attrloop review` tells what became of every answer, and never shows the token."""

import json
from pathlib import Path
from typing import Any

import pytest

from attrloop.components.errors import InputError
from attrloop.components.predict.label_studio_server import KEY, URL
from attrloop.pipelines.cli.main import app

EXAMPLE = Path(__file__).parents[3] / "examples" / "own-catalogue" / "config.yaml"


def task(listing: Any, attribute: str, *values: str) -> dict[str, Any]:
    data = {"listing": listing, "vertical": "mug", "attribute": attribute}
    results = [[{"from_name": "answer", "value": {"choices": [value]}}] for value in values]
    given = [{"completed_by": person, "result": result} for person, result in enumerate(results)]
    return {"id": 1, "data": data, "annotations": given}


def test_an_import_names_what_changed_what_is_disputed_and_what_was_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [
        task("mug-01", "colour", "red"),
        task("mug-02", "colour", "red"),
        task("mug-03", "colour", "red", "blue"),
        task("mug-04", "colour"),
        task(5, "colour", "red"),
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    output = tmp_path / "labels.jsonl"
    app(["review", "import", str(tmp_path / "export.json"), str(EXAMPLE), "-o", str(output)], standalone_mode=False)
    told = capsys.readouterr()
    counts = "2 labels reviewed, 1 tasks without an answer, 1 labels changed, 1 disputed, 1 not read"
    assert told.out.splitlines() == [counts, str(output)]
    problem, changed, disputed = told.err.splitlines()
    assert "its listing is 5, which is not text" in problem
    assert changed == "changed: mug-02/colour" and disputed.endswith("mug-03/colour")
    labels = {(row["listing"], row["attribute"]): row for row in map(json.loads, output.read_text().splitlines())}
    given = [json.loads(line) for line in EXAMPLE.with_name("labels.jsonl").read_text().splitlines()]
    assert len(labels) == len(given), "everything that the config names is there, and nothing else"
    assert labels["mug-01", "colour"]["rationale"] == "I see a red body."
    assert labels["mug-03", "colour"]["value"] == "green", "what is disputed stays as it was"


@pytest.mark.parametrize("command", ["push", "pull"])
def test_push_and_pull_take_server_and_token_from_the_environment_alone(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app(["review", command, "--help"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert URL in shown and KEY in shown and "--token" not in shown and "--url" not in shown
    monkeypatch.delenv(URL, raising=False)
    if command == "pull":
        with pytest.raises(InputError, match=f"{URL}: is not set"):
            app(["review", "pull", str(EXAMPLE)], standalone_mode=False)

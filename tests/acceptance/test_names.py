"""Whatever names a catalogue and its folders have, a run, its report, a prediction and a review say them."""

import json
import os
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import Label
from attrloop.components.storage.parquet import read_parquet
from attrloop.components.tracking.database import database_uri
from attrloop.pipelines.demo.demo import BASE

pytestmark = pytest.mark.slow

# As the folder of everything, of the photographs, and as a file's name.
FOLDER, PHOTOS, RUNS = "it's #1 [new] 100%20 $HOME & {{x}} ? *", "-photos [2]?", '~runs "a\\b" Läden 中文'
COLOURS = {"red [/] *": "red", "<b>blue</b> & 5%": "blue", "{green} ~ $1": "green"}
VERTICALS = {"mug [new] | 100%": "mug", "../Taschen/<i>x</i> ?#": "bag"}
ATTRIBUTE, SIZE = "colour/finish [cm] $x$", "-size: %s {0} \"q\" 'p' `t` \\n ~"
SIZES = ("16:9", "a/b | c")
EACH = 4  # listings of a vertical in each split, and without a label


def key(vertical: str, k: int) -> str:
    return f'{vertical} "{k}" #{k} %2F?[{k}]'


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue, and the config of a short run."""
    folder = tmp_path_factory.mktemp("names") / FOLDER
    (folder / PHOTOS).mkdir(parents=True)
    attributes = {ATTRIBUTE: {"values": list(COLOURS)}, SIZE: {"values": list(SIZES), "description": "a {size} [x] %d"}}
    schema = {"verticals": {name: {"attributes": attributes} for name in VERTICALS}}
    (folder / "schema #1?.yaml").write_text(json.dumps(schema))
    listings, labels = list[dict[str, Any]](), list[dict[str, Any]]()
    for vertical in VERTICALS:
        for k in range(4 * EACH):
            colour, name = list(COLOURS)[k % 3], f"-{k}%20 [{k}]? #&'\".png"
            Image.new("RGB", (56, 56), COLOURS[colour]).resize((56 + k, 56)).save(folder / PHOTOS / name)
            listings.append(
                {
                    "id": key(vertical, k),
                    "vertical": vertical,
                    "images": [f"{PHOTOS}/{name}"],
                    "title": f"[{k}] {{0}} %s",
                }
            )
            split = ("train", "validation", "test", "")[k % 4]
            answers = {ATTRIBUTE: colour, SIZE: SIZES[k // 4 % 2]}
            labels += [
                {
                    "listing": key(vertical, k),
                    "attribute": name,
                    "value": value,
                    "split": split,
                    "rationale": "I see [it]",
                }
                for name, value in answers.items()
                if split
            ]
    for file, rows in (("listings [2].jsonl", listings), ("labels*.jsonl", labels)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "name": "names",
        "data": {
            "catalogue_schema": "schema #1?.yaml",
            "listings": "listings [2].jsonl",
            "labels": "labels*.jsonl",
        },
        "model": {"base": str(BASE), "dtype": "float32"},
        "annotate": {"max_calls": 0, "train_per_vertical": 4, "validation_per_vertical": 4, "test_per_vertical": 4},
        "sft": {"learning_rate": 2e-3, "epochs": 4, "batch_size": 16},
        "sample": {"chains": 4, "max_new_tokens": 48, "batch_size": 32},
        "mine": {"gate_accuracy": 1.0},
        "dpo": {"learning_rate": 1e-3, "batch_size": 16},
        "evaluate": {"max_new_tokens": 48, "bootstrap": 50},
        "loop": {"iterations": 1, "min_gain": -1.0},
        "promote": {"min_gold": 1, "resamples": 50},
        "tracking": {"experiment": "[new] shops / 100% ?", "model_name": "my%20shop [2] {1} & $x %s"},
    }
    (folder / "config {1}.yaml").write_text(json.dumps(config))
    return folder


def attrloop(shop: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "attrloop.pipelines.cli.main", *words],
        cwd=shop,
        env=environment | {"OMP_NUM_THREADS": "2", "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def ran(shop: Path) -> tuple[Path, str]:
    """The run's folder, and what was printed."""
    shown = attrloop(shop, "run", "config {1}.yaml", "--runs", RUNS)
    return Path(shown.splitlines()[-1]), shown


def test_a_run_lies_where_it_was_told_and_shows_the_names(shop: Path, ran: tuple[Path, str]) -> None:
    folder, shown = ran
    assert folder.parent == shop / RUNS
    assert all(vertical in shown for vertical in VERTICALS)
    assert {file.name for file in (shop / RUNS).iterdir()} >= {"mlartifacts", "mlflow.db", "promotions"}
    assert {file.name for file in shop.iterdir()} == {
        PHOTOS, RUNS, "config {1}.yaml", "labels*.jsonl", "listings [2].jsonl", "schema #1?.yaml"
    }  # fmt: skip
    assert shop.parent.name.startswith("names") and list(shop.parent.iterdir()) == [shop], "no folder by a wrong name"


def test_its_rows_are_of_the_catalogue(shop: Path, ran: tuple[Path, str]) -> None:
    rows = read_parquet(ran[0] / "evaluate" / "test" / "sft" / "predictions.parquet")
    assert set(rows["vertical"]) == set(VERTICALS) and set(rows["attribute"]) == {ATTRIBUTE, SIZE}
    assert set(rows["listing"]) == {key(vertical, k) for vertical in VERTICALS for k in range(2, 4 * EACH, 4)}
    assert set(rows["gold"]) == {*COLOURS, *SIZES}


def test_its_report_says_the_names(ran: tuple[Path, str]) -> None:
    page = (ran[0] / "report.html").read_text(encoding="utf-8")
    assert "<i>x</i>" not in page and "<b>blue</b>" not in page
    assert all(name in unescape(page) for name in (*VERTICALS, *COLOURS, ATTRIBUTE, SIZE))
    stages = json.loads((ran[0] / "summary.json").read_text())["stages"]
    assert set(stages[-1]["test"]["verticals"]) == set(VERTICALS)


def test_it_is_tracked_and_registered_by_the_names(shop: Path, ran: tuple[Path, str]) -> None:
    client = MlflowClient(database_uri(shop / RUNS / "mlflow.db"))
    experiment = client.get_experiment_by_name("[new] shops / 100% ?")
    runs = client.search_runs([experiment.experiment_id])
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert len([name for name in parent.data.metrics if name.startswith("accuracy/")]) == len(VERTICALS)
    note = parent.data.tags["mlflow.note.content"]
    assert "<i>" not in note
    assert all(name in unescape(note) for name in VERTICALS)
    assert {entry.path for entry in client.list_artifacts(parent.info.run_id)} >= {"report.html", "summary.json"}
    (version,) = client.search_model_versions("")
    assert version.name == "my%20shop [2] {1} & $x %s"


def test_a_catalogue_is_predicted_and_its_queue_read_back(shop: Path, ran: tuple[Path, str]) -> None:
    name = "models:/my%20shop [2] {1} & $x %s/1"
    shown = attrloop(shop, "predict", "config {1}.yaml", "--runs", RUNS, "--adapter", name)
    folder = Path(shown.splitlines()[-1])
    rows = read_parquet(sorted((folder / "predictions").glob("shard-*.parquet")))
    assert set(rows["listing"]) == {key(vertical, k) for vertical in VERTICALS for k in range(4 * EACH)}
    assert set(rows["attribute"]) == {ATTRIBUTE, SIZE}
    projects = sorted((folder / "review").glob("*/tasks.json"))
    exported = [task for project in projects for task in json.loads(project.read_text())]
    assert {task["data"]["listing"] for task in exported} <= set(rows["listing"])
    assert {(task["data"]["vertical"], task["data"]["attribute"]) for task in exported} == {
        (vertical, attribute) for vertical in VERTICALS for attribute in (ATTRIBUTE, SIZE)
    }
    _answer(exported)
    (shop.parent / "export [1].json").write_text(json.dumps(exported))
    attrloop(shop, "review", "import", str(shop.parent / "export [1].json"), "config {1}.yaml", "-o", "~out [2].jsonl")
    labels = [label for _, label in read_rows(shop / "~out [2].jsonl", Label)]
    assert {(label.listing, label.attribute) for label in labels} >= {
        (task["data"]["listing"], task["data"]["attribute"]) for task in exported
    }


def _answer(tasks: list[dict[str, Any]]) -> None:
    """A person confirms the last value of the list in every task."""
    for task in tasks:
        value = list(COLOURS)[-1] if task["data"]["attribute"] == ATTRIBUTE else SIZES[-1]
        result = {"from_name": "answer", "to_name": "why", "type": "choices", "value": {"choices": [value]}}
        task["annotations"] = [{"id": 1, "result": [result]}]

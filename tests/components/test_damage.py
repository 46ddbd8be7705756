"""The damage table: every kind of file of a finished run, damaged in every way.

Whoever reads the file refuses it, names it and says what to do; the step that makes it makes it again. The ledger, the
cache of replies, encoded images and what MLflow keeps have tests of their own.
"""

import io
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.fetch_adapter.fetch import fetch
from attrloop.components.gold.learnt import record_of
from attrloop.components.gold.left_out import recorded
from attrloop.components.gold.splits import splits_of
from attrloop.components.loop_state.decisions import should_run
from attrloop.components.report.report import print_table
from attrloop.components.results.reader import Results
from attrloop.components.run.events import read_events
from attrloop.components.run.manifest import intact, intact_files
from attrloop.components.run.reporting import reporting
from attrloop.components.run.shards import finished_shards
from attrloop.components.run.state import LoopState
from attrloop.components.run.workspace import Workspace
from tests.components.test_made_from import STAGE, STEPS
from tests.tracked import make_run

LINES = b'{"listing": "a", "split": "test", "reason": "mixed", "other": "b"}\n' * 2
RECORD = b'{\n "model_version": 1,\n "action": "first",\n "reason": "better",\n "parent_run": "r"\n}\n'
REPORT = b'{\n "findings": [],\n "forecast": null\n}\n'


def _rows() -> bytes:
    content = io.BytesIO()
    names = [f"mug-{k}" for k in range(40)]
    answers = dict.fromkeys(("answer", "chosen_answer", "rejected_answer", "rejected"), "lid")
    made = {"listing": names, "vertical": "mug", "attribute": "lid", "source": "consensus", **answers}
    pl.DataFrame(made).write_parquet(content)
    return content.getvalue()


# artifact -> its files, then its notes, where `make_run` does not write it
OTHERS: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {
    "preflight": ({}, {"report.json": REPORT}),
    "left-out": ({"listings.jsonl": LINES}, {}),
    f"{STAGE}/chains": ({"shard-00000.parquet": _rows(), "shard-00001.parquet": _rows()}, {}),
    f"{STAGE}/pairs": ({"pairs.parquet": _rows(), "report.json": b"{\n}\n"}, {}),
    "register": ({"result.json": RECORD}, {}),
    "promote": ({"result.json": RECORD}, {}),
    "catalogue": ({}, {}),
    "predictions": ({"shard-00000.parquet": _rows()}, {}),
    "review": ({"queue.parquet": _rows(), "summary.json": REPORT}, {}),
}
COPIED = {"start": "sft", "evaluate/test/champion-7": "evaluate/test/sft"}

Read = Callable[[Workspace], Any]


def _intact(path: str) -> Read:
    return lambda ws: intact(ws.store, path)


def _results(read: Callable[[Results], Any]) -> Read:
    return lambda ws: read(Results.of(ws.store.root, _state(ws).model_dump_json()))


def _state(ws: Workspace) -> LoopState:
    return LoopState.model_validate_json((Path(ws.store.root).parent / "state.json").read_bytes())


# file of an artifact -> who reads it
READERS: dict[str, Read] = {
    "preflight/report.json": _results(lambda results: results.read_json("preflight/report.json")),
    "splits/splits.parquet": splits_of,
    "annotate/labels.jsonl": lambda ws: ws.labels("train"),
    "annotate/report.json": _results(lambda results: results.read_json("annotate/report.json")),
    "left-out/listings.jsonl": lambda ws: recorded(ws.store),
    "sft/adapter/adapter_model.safetensors": lambda ws: ws.adapter("sft/adapter"),
    "sft/adapter/adapter_config.json": lambda ws: ws.adapter("sft/adapter"),
    "sft/learnt.parquet": lambda ws: record_of(ws.store, "sft/adapter"),
    "sft/metrics.jsonl": _results(lambda results: results.curve("sft")),
    f"{STAGE}/chains/shard-00001.parquet": lambda ws: finished_shards(ws.store, f"{STAGE}/chains"),
    f"{STAGE}/pairs/pairs.parquet": _intact(f"{STAGE}/pairs/pairs.parquet"),
    f"{STAGE}/pairs/report.json": _results(lambda results: results.mining(STAGE)),
    f"{STAGE}/dpo/adapter/adapter_model.safetensors": lambda ws: fetch(*_beside(ws)),
    "evaluate/validation/sft/metrics.json": _results(lambda results: results.evaluations),
    "evaluate/test/sft/predictions.parquet": _results(lambda results: results.predictions),
    "evaluate/test/champion-7/predictions.parquet": _results(lambda results: results.flips),
    "register/result.json": _results(lambda results: results.registration),
    "promote/result.json": _results(lambda results: results.promotion),
    "start/adapter/adapter_model.safetensors": lambda ws: ws.adapter("start/adapter"),
    "start/settings.json": _intact("start/settings.json"),
    "predictions/shard-00000.parquet": lambda ws: intact_files(ws.store, "predictions"),
    "review/summary.json": _intact("review/summary.json"),
    "review/queue.parquet": _intact("review/queue.parquet"),
}


def _beside(ws: Workspace) -> tuple[str, str]:
    """A workspace that starts from the run."""
    other = Workspace.create(f"{ws.store.root}-beside", ws.config)
    return other.store.root, f"{ws.store.root}/{STAGE}/dpo/adapter"


def _to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut at a line end": lambda file: file.write_bytes(file.read_bytes().rstrip(b"\n").rpartition(b"\n")[0] + b"\n"),
    "cut in the middle": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "one bit flipped": _flip,
    "removed": Path.unlink,
    "a folder": _to_folder,
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose artifacts are all finished, from what their steps make them from."""
    folder = tmp_path_factory.mktemp("finished")
    run = make_run(folder, gold=4)
    (folder / "state.json").write_text(run.state)
    run.ws.store.write("state.json", run.state.encode())
    with reporting(run.ws.store, "sft"):
        pass
    place = Path(run.uri)
    for name, source in COPIED.items():
        shutil.copytree(place / source, place / name)
    (place / "start/settings.json").write_text('{\n "base": "tiny"\n}\n')
    for name, step in STEPS.items():
        files, notes = OTHERS.get(name, ({}, {}))
        kept = shutil.copytree(place / name, folder / "kept" / name) if name not in OTHERS else None
        artifact = step.begin(run.ws)
        for entry in kept.iterdir() if kept else ():
            if entry.name not in ("manifest.json", "inputs.json"):
                shutil.move(entry, artifact.folder)
                files[entry.name] = b""
        for file, data in ({} if kept else files | notes).items():
            (artifact.folder / file).write_bytes(data)
        artifact.made_from.setdefault("origin", "models:/mugs/1")
        if name != "start":
            artifact.made_from.pop("origin")
        artifact.finish("test", {"rows": 1, "checks": 1, "listings": 1}, files, notes)
    return place


@pytest.fixture
def ws(template: Path, tmp_path: Path) -> Workspace:
    shutil.copy(template.parent / "state.json", tmp_path)
    return Workspace.open(str(shutil.copytree(template, tmp_path / "run")))


def _artifact(path: str) -> str:
    return next(name for name in sorted(STEPS, key=len, reverse=True) if path.startswith(f"{name}/"))


def test_without_damage_everything_is_read_and_reused(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    for name, read in READERS.items():
        read(ws)
        assert STEPS[_artifact(name)].begin(ws).manifest is not None, name
    print_table(ws.store.root)
    assert read_events(ws.store)[0].step == "sft"
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", READERS)
def test_a_damaged_file_is_refused_by_its_reader_and_made_again_by_its_step(
    ws: Workspace, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = _artifact(file)
    DAMAGES[damage](Path(ws.store.root, file))
    with pytest.raises(InputError, match=rf"run/{artifact}: damaged \(.*{Path(file).name}.*Remove this folder, then"):
        READERS[file](ws)
    with caplog.at_level(logging.WARNING):
        assert STEPS[artifact].begin(ws).manifest is None
    assert f"{artifact} is damaged" in caplog.text and "made again" in caplog.text
    assert not Path(ws.store.root, file).exists()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", READERS)
def test_a_damaged_manifest_is_refused_and_its_artifact_made_again(ws: Workspace, file: str, damage: str) -> None:
    artifact = _artifact(file)
    DAMAGES[damage](Path(ws.store.root, artifact, "manifest.json"))
    gone = damage in ("removed", "a folder")
    if not gone or file.endswith((".parquet", ".safetensors", ".jsonl")):
        try:
            READERS[file](ws)
        except AttrloopError as error:
            assert f"run/{artifact}" in str(error) or f"run/{file}" in str(error)
        else:
            assert gone, "without a manifest the artifact is not there yet"
    assert STEPS[artifact].begin(ws).manifest is None


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("artifact", [name for name in STEPS if name != "preflight"])
def test_the_record_of_inputs_of_a_finished_artifact_is_needed_no_more(
    ws: Workspace, artifact: str, damage: str
) -> None:
    DAMAGES[damage](Path(ws.store.root, artifact, "inputs.json"))
    assert STEPS[artifact].begin(ws).manifest is not None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_read_from_the_evaluations(
    ws: Workspace, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[damage](Path(ws.store.root, "state.json"))
    if damage == "cut at a line end":  # it has one line
        Path(ws.store.root, "state.json").write_bytes(b"{\n")
    assert Results.of(ws.store.root).state == _state(ws)
    assert ("state.json is damaged" in caplog.text) == (damage not in ("removed", "a folder"))


def test_a_figure_of_the_state_that_was_changed_is_found(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    raw = json.loads(ws.store.read("state.json"))
    raw["outcomes"][0]["macro"] += 0.1
    ws.store.write("state.json", json.dumps(raw).encode())
    assert Results.of(ws.store.root).state == _state(ws) and "state.json is damaged" in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_config_is_named_and_written_again_with_the_run(ws: Workspace, damage: str) -> None:
    file = Path(ws.store.root, "config.json")
    DAMAGES[damage](file)
    try:
        should_run(ws.store.root, 1, _state(ws).model_dump_json())
    except AttrloopError as error:
        assert f"{ws.store.root}/config.json" in str(error)
    else:
        assert damage == "one bit flipped", "the file may be edited: another setting is another setting"
    if damage == "a folder":
        with pytest.raises(AttrloopError, match=r"config\.json: cannot be used"):
            Workspace.create(ws.store.root, ws.config)
        file.rmdir()
    Workspace.create(ws.store.root, ws.config)
    assert Workspace.open(ws.store.root).config == ws.config


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_event_is_left_out_and_the_rest_is_shown(ws: Workspace, damage: str) -> None:
    with reporting(ws.store, "dpo", stage=STAGE):
        pass
    first = min(Path(ws.store.root, "events").iterdir())
    DAMAGES[damage](first)
    found = [event.step for event in read_events(ws.store)]
    assert found[-1] == "dpo"
    assert found == ["dpo"] or (damage == "one bit flipped" and len(found) == 2)

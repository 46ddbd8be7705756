"""An adapter from elsewhere becomes a finished stage that names its origin, and stays as long as its run."""

import json
import logging
import re
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.fetch_adapter.fetch import ADAPTER, fetch
from attrloop.components.fetch_adapter.origin import pinned
from attrloop.components.gold.learnt import Learnt, record_of, write_record
from attrloop.components.promote.challenge import evaluate_champion
from attrloop.components.promote.promote import promote
from attrloop.components.register_adapter.register import register
from attrloop.components.results.reader import Results
from attrloop.components.run.adapter_files import adapter_digest
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import PromptConfig, RunConfig
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from tests.stores import contents, finish_again
from tests.tracked import VERTICALS, Run, evaluate, make_run, train

NAME = "attribute-adapter"


def client_of(runs: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{runs}/mlflow.db", f"sqlite:///{runs}/mlflow.db")


@pytest.fixture
def champion(runs: Path) -> Run:
    """A registered run, trained with titles in its prompt, whose adapter is champion."""
    run = make_run(runs, prompt=PromptConfig(title=True))
    register(run.uri, run.state)
    run.ws.store.write("state.json", run.state.encode())
    client_of(runs).set_registered_model_alias(NAME, "champion", "1")
    return run


def another(runs: Path, champion: Run, name: str = "weekly") -> Workspace:
    """A workspace beside the champion's, over the same catalogue, with another prompt."""
    return Workspace.create(
        str(runs / name), champion.ws.config.model_copy(update={"prompt": PromptConfig(metadata=True)})
    )


def origin(ws: Workspace) -> dict[str, str]:
    manifest = read_manifest(ws.store, "start")
    assert manifest is not None and manifest.kind == "adapter"
    return manifest.made_from


def test_the_champion_becomes_a_finished_stage_that_names_its_version(runs: Path, champion: Run) -> None:
    ws = another(runs, champion)
    assert fetch(ws.store.root) == ADAPTER
    theirs = champion.ws.store.folder("iteration-1/dpo/adapter")
    assert adapter_digest(ws.store.folder(ADAPTER)) == adapter_digest(theirs) == origin(ws)["content"]
    assert origin(ws)["origin"] == f"models:/{NAME}/1"
    assert origin(ws)["trained_as"] == f"{Path(champion.uri).name}/iteration-1"
    assert not list(ws.store.folder(ADAPTER).glob("*.bin")), "nothing that unpickles"
    assert Workspace.open(ws.store.root).config.prompt == PromptConfig(title=True), "it is asked as it was taught"


def test_a_run_keeps_its_version_when_the_alias_moves_and_new_data_take_the_new_one(runs: Path, champion: Run) -> None:
    ws = another(runs, champion)
    fetch(ws.store.root)
    better = make_run(runs, "better", seed=1)
    register(better.uri, better.state)
    client_of(runs).set_registered_model_alias(NAME, "champion", "2")
    fetch(ws.store.root)
    assert origin(ws)["origin"] == f"models:/{NAME}/1"
    other = another(runs, champion, "other")
    fetch(other.store.root)
    assert origin(other)["origin"] == f"models:/{NAME}/2"
    listings = Path(ws.config.data.listings)
    listings.write_text(listings.read_text().replace('"0-0.png"', '"0-0.png","0-0.png"', 1))
    fetch(ws.store.root)
    assert origin(ws)["origin"] == f"models:/{NAME}/2"


def test_a_config_that_is_written_again_adopts_the_settings_again(runs: Path, champion: Run) -> None:
    ws = another(runs, champion)
    fetch(ws.store.root)
    Workspace.create(ws.store.root, ws.config)
    fetch(ws.store.root)
    assert Workspace.open(ws.store.root).config.prompt == PromptConfig(title=True)


def test_a_base_model_that_is_not_here_is_taken_from_the_config(runs: Path, champion: Run) -> None:
    settings = RunConfig.model_validate_json((Path(champion.uri) / "config.json").read_text())
    moved = settings.model_copy(
        update={"model": settings.model.model_copy(update={"base": "/no/such/folder", "max_pixels": 999})}
    )
    (Path(champion.uri) / "config.json").write_text(moved.model_dump_json())
    ws = another(runs, champion)
    fetch(ws.store.root, champion.uri)
    model = Workspace.open(ws.store.root).config.model
    assert (model.base, model.max_pixels) == (ws.config.model.base, 999)


@pytest.mark.parametrize("within", ["", "/sft/adapter"], ids=["a run", "an adapter in a run"])
def test_an_adapter_can_come_from_another_run(runs: Path, champion: Run, within: str) -> None:
    ws = another(runs, champion)
    fetch(ws.store.root, champion.uri + within)
    path = within.strip("/") or "iteration-1/dpo/adapter"
    assert origin(ws)["origin"] == f"{champion.uri}/{path}"
    assert origin(ws)["trained_as"] == f"{Path(champion.uri).name}/{'sft' if within else 'iteration-1'}"
    assert adapter_digest(ws.store.folder(ADAPTER)) == adapter_digest(champion.ws.store.folder(path))


def test_an_alias_is_pinned_to_the_version_that_it_stands_for(runs: Path, champion: Run) -> None:
    assert pinned(champion.ws.config, champion.uri, "") == f"models:/{NAME}/1"
    assert pinned(champion.ws.config, champion.uri, f"models:/{NAME}@candidate") == f"models:/{NAME}/1"
    assert pinned(champion.ws.config, champion.uri, f"models:/{NAME}/7") == f"models:/{NAME}/7"


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (f"models:/{NAME}@nobody", "nothing is registered under this name"),
        ("models:/other@champion", "nothing is registered under this name"),
        (f"models:/{NAME}/9", "MLflow at sqlite.*failed"),
        ("models:/a/b/c", "not the name of a registered model"),
        ("/nowhere", "not the folder of a run, nor in one"),
    ],
)
def test_an_adapter_that_is_not_there_is_named(runs: Path, champion: Run, adapter: str, message: str) -> None:
    ws = another(runs, champion)
    with pytest.raises(AttrloopError, match=message):
        fetch(ws.store.root, adapter)
    assert read_manifest(ws.store, "start") is None


def test_what_is_trained_from_a_version_names_it_as_its_parent(runs: Path, champion: Run) -> None:
    weekly = make_run(runs, "weekly", {"base": 0.3, "iteration-1": 0.9}, seed=2)
    fetch(weekly.uri)
    start = read_manifest(weekly.ws.store, "start")
    assert start is not None
    train(weekly.ws, "iteration-1/dpo", start.digest, seed=2)
    for split in ("validation", "test"):
        evaluate(weekly.ws, "start", split, weekly.ws.labels(split), 0.6, 2)
    base, iteration = LoopState.model_validate_json(weekly.state).outcomes
    state = LoopState(outcomes=(base, Outcome(stage="start", adapter=ADAPTER, macro=0.6), iteration)).model_dump_json()
    assert register(weekly.uri, state) == "2"
    assert client_of(runs).get_model_version(NAME, "2").tags["parent_version"] == "1"
    assert Results.of(weekly.uri, state).reference == "start", "gains are told against what it started from"


def test_a_loops_own_workspace_is_not_taken(champion: Run) -> None:
    before = (Path(champion.uri) / "config.json").read_text()
    with pytest.raises(InputError, match="trained its own first adapter"):
        fetch(champion.uri)
    assert (Path(champion.uri) / "config.json").read_text() == before and json.loads(before)["prompt"]["title"]


def test_an_adapter_is_not_brought_to_where_it_is(runs: Path, champion: Run) -> None:
    ws = another(runs, champion)
    fetch(ws.store.root)
    with pytest.raises(InputError, match="already in this workspace"):
        fetch(ws.store.root, f"{ws.store.root}/start/adapter")
    assert read_manifest(ws.store, "start") is not None and list(ws.store.folder(ADAPTER).glob("*.safetensors"))


def learnt(ws: Workspace, adapter: str = ADAPTER) -> Learnt:
    found = record_of(ws.store, adapter)
    assert found is not None
    return found


def listings(record: Learnt, role: str) -> set[str]:
    return set(pl.read_parquet(record.file).filter(pl.col("role") == role)["listing"])


@pytest.mark.parametrize("registered", [True, False], ids=["from MLflow", "from a run"])
def test_what_it_has_learnt_from_comes_with_it(runs: Path, champion: Run, registered: bool) -> None:
    ws = another(runs, champion)
    fetch(ws.store.root, "" if registered else champion.uri)
    theirs = record_of(champion.ws.store, "iteration-1/dpo/adapter")
    assert theirs is not None and learnt(ws).file.read_bytes() == theirs.file.read_bytes()
    assert listings(learnt(ws), "chosen") == {label.listing for label in champion.ws.labels("validation")}


def test_a_grandparents_training_listings_are_found(runs: Path, champion: Run) -> None:
    """Each generation has a catalogue of its own: only the records still know the listings of the first one."""
    before, folder = champion.uri, runs
    for generation in ("one", "two"):
        folder = folder / generation
        folder.mkdir()
        child = make_run(folder, generation, {"base": 0.3}, gold=2)
        rename(child, generation)
        fetch(child.uri, before)
        train(child.ws, "iteration-1/dpo", "", 1, ADAPTER)
        before = f"{child.uri}/iteration-1/dpo/adapter"
    record = learnt(child.ws, "iteration-1/dpo/adapter")
    chosen = listings(record, "chosen")
    assert {"rug-0", "one-rug-0", "two-rug-0"} <= chosen and "rug-1" not in chosen and record.unknown == ()


def rename(run: Run, prefix: str) -> None:
    """Gives a run's listings other ids."""
    for file in (Path(run.ws.config.data.listings), run.ws.store.file("annotate/labels.jsonl")):
        text = file.read_text()
        for vertical in VERTICALS:
            text = text.replace(f'"id":"{vertical}', f'"id":"{prefix}-{vertical}')
            text = text.replace(f'"listing":"{vertical}', f'"listing":"{prefix}-{vertical}')
        file.write_text(text)
    finish_again(run.ws.store, "annotate")
    vars(run.ws).pop("listings", None)


def forget(run: Run) -> None:
    """Makes a run look like one of an earlier version, which kept no records."""
    for file in Path(run.uri).rglob("learnt.parquet"):
        file.unlink()
        finish_again(run.ws.store, str(file.parent.relative_to(run.uri)))


def test_the_history_of_an_adapter_that_an_earlier_version_registered_is_unknown(runs: Path) -> None:
    run = make_run(runs)
    forget(run)
    register(run.uri, run.state)
    ws = make_run(runs, "weekly", {"base": 0.3}).ws
    fetch(ws.store.root, f"models:/{NAME}/1")
    assert learnt(ws).unknown == (f"models:/{NAME}/1",), "its ancestors are not known"
    chosen = {label.listing for label in run.ws.labels("validation")}
    assert listings(learnt(ws), "chosen") == chosen, "but its run is there"
    train(ws, "iteration-1/dpo", "", 1, ADAPTER)
    assert learnt(ws, "iteration-1/dpo/adapter").unknown == (f"models:/{NAME}/1",), "so is that of its descendants"


def test_the_folder_of_an_earlier_versions_run_tells_what_its_labels_and_pairs_were(runs: Path) -> None:
    run = make_run(runs)
    run.ws.store.write("state.json", run.state.encode())
    pairs = Artifact(run.ws.store, "iteration-1/pairs", {})
    pl.DataFrame({"listing": ["seen", "seen"], "attribute": ["trim", "trim"]}).write_parquet(
        pairs.folder / "pairs.parquet"
    )
    pairs.finish("pairs", {}, ["pairs.parquet"])
    forget(run)
    ws = another(runs, run)
    fetch(ws.store.root, run.uri)
    assert listings(learnt(ws), "trained") == {"seen"}
    assert listings(learnt(ws), "chosen") == {label.listing for label in run.ws.labels("validation")}
    assert learnt(ws).unknown == (f"{run.uri}/iteration-1/dpo/adapter",)


@pytest.mark.parametrize("there", [True, False], ids=["changed", "missing"])
def test_a_record_of_the_registry_that_is_not_the_one_that_was_registered_is_refused(
    runs: Path, champion: Run, there: bool
) -> None:
    (record,) = (runs / "mlartifacts").rglob("artifacts/artifacts/learnt.parquet")
    if there:
        write_record(record, [], [])
    else:
        record.unlink()
    with pytest.raises(
        InputError, match=r"its record of what it has learnt from is not the one .*\(tag learnt_digest\)"
    ):
        fetch(another(runs, champion).store.root)


@pytest.mark.parametrize("damage", ["adapter", "settings"])
def test_a_registered_adapter_that_is_not_what_was_registered_is_refused_everywhere(
    runs: Path, champion: Run, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One bit in the artifact store; or settings by which the adapter would be asked otherwise than it was taught."""
    (weights,) = runs.rglob("artifacts/adapter/adapter_model.safetensors")
    file = weights if damage == "adapter" else weights.parents[2] / "MLmodel"
    data = file.read_bytes()
    changed = (
        data[:-1] + bytes([data[-1] ^ 1]) if damage == "adapter" else data.replace(b"title: true", b"title: false")
    )
    assert changed != data
    file.write_bytes(changed)
    tag = "adapter_digest" if damage == "adapter" else "model_digest"
    told = rf"models:/{NAME}/1 at .* are not those that were registered \(tag {tag}\)\. Restore them"
    ws = another(runs, champion)
    with pytest.raises(InputError, match=told):
        fetch(ws.store.root)
    assert read_manifest(ws.store, "start") is None
    challenger = make_run(runs, "challenger", {"base": 0.3, "sft": 0.7}, seed=5)
    register(challenger.uri, challenger.state)
    with caplog.at_level(logging.WARNING):
        evaluate_champion(challenger.uri, challenger.state)
    assert any(re.search(told, record.getMessage()) for record in caplog.records)
    with pytest.raises(InputError, match=told):
        promote(challenger.uri, challenger.state)
    file.write_bytes(data)
    assert fetch(ws.store.root) == ADAPTER


@pytest.mark.parametrize(
    "name", ["adapter/adapter_model.safetensors", "settings.json", "learnt.parquet", "manifest.json"]
)
def test_a_damaged_copy_is_brought_again_from_the_same_version(runs: Path, champion: Run, name: str) -> None:
    ws = another(runs, champion)
    fetch(ws.store.root)
    better = make_run(runs, "better", seed=1)
    register(better.uri, better.state)
    client_of(runs).set_registered_model_alias(NAME, "champion", "2")
    before = contents(ws.store.folder("start/adapter"))
    ws.store.write(f"start/{name}", ws.store.read(f"start/{name}")[:40])
    fetch(ws.store.root)
    assert origin(ws)["origin"] == f"models:/{NAME}/1" and contents(ws.store.folder("start/adapter")) == before


def test_a_damaged_adapter_of_a_run_is_refused(runs: Path, champion: Run) -> None:
    weights = champion.ws.store.folder("iteration-1/dpo/adapter") / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    for name in (champion.uri, f"{champion.uri}/iteration-1/dpo/adapter"):
        with pytest.raises(InputError, match=r"iteration-1/dpo: damaged \(adapter/adapter_model\.safetensors is"):
            fetch(another(runs, champion).store.root, name)

"""A killed or divided prediction ends as an undisturbed one; answers are votes; memory does not grow."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from attrloop.components.catalogue.records import Chain, Listing, to_frame
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.fetch_adapter.fetch import ADAPTER, fetch
from attrloop.components.predict.predict import predict, share_out
from attrloop.components.predict.queue import review
from attrloop.components.predict.stream import check, prepare
from attrloop.components.predict.votes import CataloguePrediction, decide
from attrloop.components.run.config import RunConfig
from attrloop.components.run.events import read_events
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage import inputs
from tests.small import COLOURS, change_config
from tests.splits import write_splits

ROOT = Path(__file__).parents[3]


def chain(answer: str | None, number: int = 0, logprob: float = -1.0, view: int = 0) -> Chain:
    text = f"I see {answer}. Answer: {answer}"
    of = {"listing": "m", "vertical": "mug", "attribute": "colour"}
    return Chain(**of, view=view, chain=number, text=text, answer=answer, logprob=logprob, tokens=4)


@pytest.mark.parametrize(
    ("answers", "answer", "confidence"),
    [
        (["red", "red", "blue", "red"], "red", 0.75),
        (["red", "blue", None, None], "blue", 0.25),
        (["not_visible", "not_visible", "not_visible", "red"], "red", 0.25),
        (["not_visible", "not_visible", None, None], "not_visible", 0.5),
        ([None, None], None, 0.0),
    ],
    ids=[
        "the most votes",
        "off the list counts against",
        "who saw nothing does not outvote who did",
        "nobody saw anything",
        "all off the list",
    ],
)
def test_the_answer_is_the_vote_and_confidence_its_share_of_all_chains(
    answers: list[str | None], answer: str | None, confidence: float
) -> None:
    (row,) = decide(to_frame([chain(value, k) for k, value in enumerate(answers)], Chain)).iter_rows(named=True)
    assert (row["answer"], row["confidence"], row["chains"]) == (answer, confidence, len(answers))
    assert row["rationale"] == ("" if answer is None else f"I see {answer}.")


def test_the_rationale_is_the_most_probable_chains(tmp_path: Path) -> None:
    rows = [chain("red", 0, -9.0), chain("red", 1, -2.0).model_copy(update={"text": "A red glaze. Answer: red"})]
    assert decide(to_frame(rows, Chain))["rationale"].to_list() == ["A red glaze."]


@pytest.fixture
def start(trained: Callable[[str], Path], tmp_path: Path) -> Path:
    """A workspace for predicting the trained run's own catalogue, with that run's adapter."""
    run = trained("qwen2_5_vl") / "run"
    uri = prepare(str(run / "config.json"), str(tmp_path / "prediction"))
    assert fetch(uri, str(run / "sft" / "adapter")) == ADAPTER
    return tmp_path / "prediction"


def shards(workspace: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (workspace / "predictions").glob("shard-*.parquet")}


def predictions(workspace: Path) -> pl.DataFrame:
    return pl.read_parquet(workspace / "predictions" / "shard-*.parquet")


def test_every_listing_of_the_catalogue_is_answered_in_its_order(start: Path) -> None:
    assert predict(str(start), ADAPTER) == "predictions"
    made = predictions(start)
    rows = [CataloguePrediction.model_validate(row) for row in made.iter_rows(named=True)]
    ws = Workspace.open(str(start))
    assert {row.listing for row in rows} == set(ws.listings) and len(rows) == 20
    assert {row.answer for row in rows} <= {*COLOURS, "not_visible", None} and sum(
        row.answer is not None for row in rows
    ) > 10
    assert {row.chains for row in rows} == {3} and all(0 <= row.confidence <= 1 for row in rows)
    size = ws.config.sample.shard_size
    ids = list(ws.listings)
    order = [sorted(ids[start : start + size]) for start in range(0, len(ids), size)]
    assert [made["listing"][k * size : (k + 1) * size].to_list() for k in range(5)] == order
    manifest = read_manifest(ws.store, "predictions")
    assert manifest is not None and (
        manifest.counts["listings"],
        manifest.counts["skipped"],
        manifest.counts["shards"],
    ) == (20, 0, 5)
    event = read_events(ws.store)[-1]
    assert event.figure and (event.figure.name, event.figure.value) == (
        "answered",
        made["answer"].count() / made.height,
    )


_KILLED = """
import os, signal, sys
from pathlib import Path
from attrloop.components.predict import predict
whole, workspace = predict.decide, sys.argv[1]
def decide(chains):
    if len(list(Path(workspace, "predictions").glob("shard-*"))) == 2:
        Path(workspace, "predictions", ".tmp-shard-00002.parquet").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(chains)
predict.decide = decide
predict.predict(workspace, "start/adapter")
"""


@pytest.mark.slow
def test_a_killed_prediction_goes_on_to_the_same_files(start: Path, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(start, undisturbed)
    predict(str(undisturbed), ADAPTER)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(start)], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert (
        done.returncode == -signal.SIGKILL
        and len(shards(start)) == 2
        and not (start / "predictions" / "manifest.json").exists()
    )
    kept = {name: (start / "predictions" / name).stat().st_mtime_ns for name in shards(start)}
    predict(str(start), ADAPTER)
    assert shards(start) == shards(undisturbed) and len(shards(start)) == 5
    assert {name: (start / "predictions" / name).stat().st_mtime_ns for name in kept} == kept, (
        "finished shards are not predicted again"
    )
    assert json.loads((start / "predictions" / "manifest.json").read_text())["files"] == sorted(shards(start))


def test_workers_share_the_catalogue_and_the_last_one_finishes_it(start: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(start, alone)
    predict(str(alone), ADAPTER)
    assert share_out(str(start), ADAPTER, 2) == ["1/2", "2/2"] and len(share_out(str(start), ADAPTER, 9)) == 5, (
        "there are five shards"
    )
    predict(str(start), ADAPTER, "2/2")
    assert (
        set(shards(start)) == {"shard-00001.parquet", "shard-00003.parquet"}
        and not (start / "predictions" / "manifest.json").exists()
    )
    predict(str(start), ADAPTER, "1/2")
    manifests = [read_manifest(Workspace.open(str(path)).store, "predictions") for path in (start, alone)]
    assert (
        shards(start) == shards(alone) and manifests[0] and manifests[1] and manifests[0].digest == manifests[1].digest
    )


def test_finished_predictions_are_reused_until_something_changes(start: Path) -> None:
    predict(str(start), ADAPTER)
    times = {file: file.stat().st_mtime_ns for file in (start / "predictions").iterdir()}
    predict(str(start), ADAPTER)
    assert {file: file.stat().st_mtime_ns for file in (start / "predictions").iterdir()} == times
    change_config(start, sample={"chains": 1})
    predict(str(start), ADAPTER)
    assert set(predictions(start)["chains"]) == {1}


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "a/b"])
def test_a_share_that_is_none_is_refused(start: Path, share: str) -> None:
    with pytest.raises(InputError, match="not a share of the work"):
        predict(str(start), ADAPTER, share)


def test_an_adapter_that_was_not_fetched_is_refused(start: Path) -> None:
    with pytest.raises(InputError, match="elsewhere: not finished"):
        predict(str(start), "elsewhere/adapter")


@pytest.fixture
def catalogue(start: Path, tmp_path: Path) -> Path:
    """The listings file of `start`, its own to change."""
    source = Path(Workspace.open(str(start)).config.data.listings)
    shutil.copytree(source.parent, tmp_path / "own", ignore=shutil.ignore_patterns("run"))
    change_config(start, data={"listings": str(tmp_path / "own" / "listings.jsonl")})
    return tmp_path / "own" / "listings.jsonl"


def test_unreadable_listings_are_skipped_counted_and_capped(start: Path, catalogue: Path) -> None:
    (catalogue.parent / "mug-7-1.png").write_bytes(b"no image")
    change_config(start, data={"check_images": 0, "max_bad_images": 0.05})
    predict(str(start), ADAPTER)
    manifest = read_manifest(Workspace.open(str(start)).store, "predictions")
    assert (
        manifest is not None and manifest.counts["skipped"] == 1 and "mug-7" not in set(predictions(start)["listing"])
    )
    (catalogue.parent / "mug-8-1.png").write_bytes(b"no image")
    shutil.rmtree(start / "predictions")
    with pytest.raises(
        AttrloopError, match=r"2 of 20 listings have images that cannot be read.*raise data.max_bad_images"
    ):
        predict(str(start), ADAPTER)


def test_every_fault_of_the_catalogue_is_told_before_anything_is_predicted(start: Path, catalogue: Path) -> None:
    lines = catalogue.read_text().splitlines()
    lines[3] = lines[3].replace('"vertical":"mug"', '"vertical":"cup"')
    lines[5] = "{"
    catalogue.write_text("\n".join([*lines, lines[0]]) + "\n")
    (catalogue.parent / "shirt-9-0.png").unlink()
    with pytest.raises(InputError) as caught:
        predict(str(start), ADAPTER)
    told = str(caught.value)
    for fault in (
        "listings.jsonl:4 (listing mug-3): unknown vertical 'cup'",
        "listings.jsonl:6: not valid JSON",
        "images checked are unreadable",
    ):
        assert fault in told
    assert not shards(start)


def test_a_repeated_id_is_named(start: Path, catalogue: Path) -> None:
    lines = catalogue.read_text().splitlines()
    catalogue.write_text("\n".join([*lines, lines[4]]) + "\n")
    with pytest.raises(InputError, match=r"listing mug-4\): duplicate id"):
        check(Workspace.open(str(start)))


def test_a_catalogue_that_cannot_be_read_is_named(start: Path, catalogue: Path) -> None:
    lines = catalogue.read_text().splitlines()
    lines[7] = lines[7].replace('"id"', '"title":"Café","id"')
    catalogue.write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(InputError, match=r"listings.jsonl:8: not UTF-8 text"):
        check(Workspace.open(str(start)))
    damaged = catalogue.with_suffix(".parquet")
    damaged.write_bytes(b"PAR1 and nothing else")
    change_config(start, data={"listings": str(damaged)})
    with pytest.raises(InputError, match=r"listings.parquet: not a Parquet file that can be read"):
        check(Workspace.open(str(start)))


_STREAMED = """
import re, sys
from pathlib import Path
from attrloop.components.predict.stream import check, listings
from attrloop.components.run.workspace import Workspace
ws = Workspace.open(sys.argv[1])
count = check(ws)
assert count == sum(1 for _ in listings(ws.config.data.listings, ws.schema)) == int(sys.argv[2]), count
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_catalogue(start: Path, catalogue: Path, suffix: str) -> None:
    used = []
    for size in (2_000, 60_000):
        rows = [
            Listing(id=f"mug-{k}", vertical="mug", images=("mug-1-0.png",), title="A mug of some kind " * 8)
            for k in range(size)
        ]
        path = catalogue.with_suffix(f".{suffix}")
        if suffix == "jsonl":
            path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
        else:
            pl.DataFrame([row.model_dump(exclude={"metadata"}) for row in rows]).write_parquet(
                path, row_group_size=5_000
            )
        change_config(start, data={"listings": str(path), "check_images": 20})
        done = subprocess.run(
            [sys.executable, "-c", _STREAMED, str(start), str(size)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        used.append(int(done.stdout.split()[-1]))
    assert used[1] < used[0] + 25, f"{used} MB; the listings alone are some 100 MB in memory"


def test_the_settings_that_an_adapter_was_trained_with_win(start: Path, trained: Callable[[str], Path]) -> None:
    run = trained("qwen2_5_vl") / "run"
    change_config(start, model={"max_pixels": 1024, "lora_rank": 7, "base": "/nowhere"}, prompt={"title": True})
    fetch(str(start), str(run / "sft" / "adapter"))
    theirs, ours = (RunConfig.model_validate_json((path / "config.json").read_text()) for path in (run, start))
    assert (ours.model.max_pixels, ours.model.base, ours.prompt) == (
        theirs.model.max_pixels,
        theirs.model.base,
        theirs.prompt,
    )
    assert ours.model.lora_rank == 7


def test_it_is_the_same_in_a_bucket_and_keeps_no_image(
    start: Path, trained: Callable[[str], Path], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.emulator import upload

    monkeypatch.setenv("ATTRLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "_seen", {})
    predict(str(start), ADAPTER)
    upload(trained("qwen2_5_vl"), f"{bucket}/world")
    config = RunConfig.model_validate_json((start / "config.json").read_text())
    data = config.data.model_copy(
        update={"catalogue_schema": f"{bucket}/world/schema.yaml", "listings": f"{bucket}/world/listings.jsonl"}
    )
    (tmp_path / "config.json").write_text(config.model_copy(update={"data": data}).model_dump_json())
    uri = prepare(str(tmp_path / "config.json"), f"{bucket}/prediction")
    fetch(uri, f"{bucket}/world/run/sft/adapter")
    for share in share_out(uri, ADAPTER, 2):
        predict(uri, ADAPTER, share)
    store = Workspace.open(uri).store
    there = {
        name.rsplit("/", 1)[1]: store.read(name) for name in store.list("predictions") if name.endswith(".parquet")
    }
    assert there == shards(start)
    assert {name.rpartition("/")[2] for name in inputs._seen} == {"listings.jsonl", "schema.yaml"}, (
        "memory does not grow with the catalogue"
    )
    assert {file.suffix for file in (tmp_path / "cache" / "inputs").iterdir()} == {".jsonl", ".yaml"}, (
        "nor does the disk"
    )
    write_splits(Workspace.open(uri), dict.fromkeys(Workspace.open(uri).listings, "train"))
    review(uri, 2)
    tasks = json.loads(store.read("review/one-value/tasks.json"))
    assert len(tasks) == 4 and tasks[0]["data"]["images"][0].startswith(f"{bucket}/world/"), (
        "Label Studio reads them from the bucket"
    )

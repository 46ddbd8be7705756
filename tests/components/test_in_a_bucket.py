"""Steps do the same in a bucket as on the disk, when workspace and catalogue lie in one.

Every call stands for another pod, which has nothing of the last one.
"""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient
from safetensors.numpy import load_file

from attrloop.components.dpo import train as dpo
from attrloop.components.evaluate.stage import evaluate_stage
from attrloop.components.mine_pairs.mine import mine
from attrloop.components.promote.ledger import Ledger
from attrloop.components.promote.promote import promote, rollback
from attrloop.components.register_adapter.register import register
from attrloop.components.report.report import write_page, write_report
from attrloop.components.run.config import TrackingConfig
from attrloop.components.run.events import read_events
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.state import LoopState
from attrloop.components.sample_chains.sample import sample
from attrloop.components.sft import train as sft
from attrloop.components.storage.buckets import SCHEMES, locate, open_bucket
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.store import Store
from tests.emulator import move, new_bucket, versions
from tests.small import train_until_killed
from tests.tracked import make_run

STAGE = "iteration-1"

pytestmark = pytest.mark.slow


class Sink:
    """Takes what the Kubeflow UI would show."""

    def __init__(self) -> None:
        self.metadata: dict[str, object] = {}

    def log_metric(self, metric: str, value: float) -> None: ...
    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...


def files(store: Store, path: str) -> list[str]:
    return [name.removeprefix(f"{path}/") for name in store.list(path)]


def test_a_killed_training_goes_on_in_another_pod_to_the_same_adapter(
    bucket: str, trained: Callable[[str], Path]
) -> None:
    local = trained("qwen2_5_vl")
    uri = move(local, bucket, "run", "annotate", "splits")
    train_until_killed(23, "sft", [uri])
    store = open_store(uri)
    assert {name.split("/")[1] for name in files(store, "sft") if "/" in name} == {"checkpoint-9", "checkpoint-18"}
    assert sft.train(uri) == sft.ADAPTER
    adapter, undisturbed = (
        load_file(s.file(f"{sft.ADAPTER}/adapter_model.safetensors")) for s in (store, open_store(local / "run"))
    )
    assert (
        all(abs(value - undisturbed[name]).max() < 1e-6 for name, value in adapter.items())
        and adapter.keys() == undisturbed.keys()
    )
    told, wanted = (
        [json.loads(row)["step"] for row in s.read("sft/metrics.jsonl").splitlines()]
        for s in (store, open_store(local / "run"))
    )
    assert told == wanted and len(told) > 5, "the curve has no seam"
    assert not [name for name in files(store, "sft") if "checkpoint" in name], "a finished stage keeps none"


def test_the_stages_of_an_iteration_make_the_same_of_a_bucket(
    emulated: str, emulated_s3: str, copy_of: Callable[[str], Path], trained: Callable[[str], Path], tmp_path: Path
) -> None:
    page, local = tmp_path / "page.html", str(copy_of("qwen2_5_vl"))
    uris = [move(trained("qwen2_5_vl"), new_bucket(scheme), "run", "splits", "annotate", "sft") for scheme in SCHEMES]
    states, pages = [], []
    for place in (local, *uris):
        state = evaluate_stage(place, "sft", sft.ADAPTER, "", metrics=Sink(), confusion=Sink())
        write_page(place, state, str(page))
        assert b"Iteration 1" not in page.read_bytes(), "the report so far"
        sample(place, STAGE, sft.ADAPTER)
        mine(place, STAGE)
        adapter = dpo.train(place, STAGE, sft.ADAPTER)
        states.append(evaluate_stage(place, STAGE, adapter, state, metrics=Sink(), confusion=Sink()))
        write_page(place, states[-1], str(page))
        assert b"Iteration 1" in page.read_bytes()
        pages.append(page.read_bytes())
    here = open_store(local)
    for uri, state, written in zip(uris, states[1:], pages[1:], strict=True):
        there = open_store(uri)
        assert state == states[0]
        for path in (f"{STAGE}/chains", f"{STAGE}/pairs", f"{STAGE}/dpo", "evaluate/validation"):
            assert files(here, path) == files(there, path), "the same files, and no more"
        for path in (
            f"{STAGE}/chains/shard-00004.parquet",
            f"{STAGE}/pairs/pairs.parquet",
            f"evaluate/validation/{STAGE}/predictions.parquet",
        ):
            assert pl.read_parquet(here.file(path)).equals(pl.read_parquet(there.file(path)), null_equal=True)
        assert there.read("report.html") == written, "the report is in the bucket"
        assert b"data:image/jpeg" in written, "the report shows images of the bucket's listings"
        assert sample(uri, STAGE, sft.ADAPTER) == f"{STAGE}/chains" and dpo.train(uri, STAGE, sft.ADAPTER) == adapter
        assert [(event.label, event.state, event.figure and event.figure.name) for event in read_events(there)] == [
            ("sft evaluate", "done", "macro accuracy"),
            (f"{STAGE} sample-chains", "done", "answered"),
            (f"{STAGE} mine-pairs", "done", "agreement"),
            (f"{STAGE} dpo", "done", "loss"),
            (f"{STAGE} evaluate", "done", "macro accuracy"),
            (f"{STAGE} sample-chains", "reused", None),
            (f"{STAGE} dpo", "reused", None),
        ]


def test_a_lost_shard_alone_is_sampled_again(bucket: str, trained: Callable[[str], Path]) -> None:
    uri = move(trained("qwen2_5_vl"), bucket, "run", "annotate", "sft")
    sample(uri, STAGE, sft.ADAPTER)
    store = open_store(uri)
    made = store.read(f"{STAGE}/chains/shard-00002.parquet")
    for lost in ("manifest.json", "shard-00002.parquet"):
        open_bucket(uri).delete(locate(f"{uri}/{STAGE}/chains/{lost}").key)
    before = versions(f"{uri}/{STAGE}/chains/")
    sample(uri, STAGE, sft.ADAPTER)
    after = versions(f"{uri}/{STAGE}/chains/")
    assert store.read(f"{STAGE}/chains/shard-00002.parquet") == made
    shards = {name for name in before if "shard-" in name}
    assert len(shards) == 4 and all(before[name] == after[name] for name in shards), "the others were not written again"


def test_a_run_in_a_bucket_is_registered_promoted_and_rolled_back(bucket: str, runs: Path, tmp_path: Path) -> None:
    tracked, run = TrackingConfig(uri=f"sqlite:///{runs}/mlflow.db"), make_run(runs)
    uri = move(runs, bucket, "run", "annotate", "sft", "iteration-1", "evaluate", tracking=tracked)
    sft_alone = LoopState(outcomes=LoopState.model_validate_json(run.state).outcomes[:2]).model_dump_json()
    for state, action in ((sft_alone, "first"), (run.state, "promoted")):
        register(uri, state)
        assert promote(uri, state) == action
        write_report(uri, state, str(tmp_path / "page.html"))
    client = MlflowClient(tracked.uri, tracked.uri)
    ledger = Ledger(open_store(f"{bucket}/runs"), "attribute-adapter")
    assert [(entry.action, entry.after) for entry in ledger.entries()] == [("promote", "1"), ("promote", "2")]
    parent = json.loads(open_store(uri).read("register/result.json"))["parent_run"]
    assert {"config.json", "report.html", "summary.json", "annotate"} <= {
        file.path for file in client.list_artifacts(parent)
    }
    assert rollback(uri).after == str(client.get_model_version_by_alias("attribute-adapter", "champion").version) == "1"
    assert read_manifest(open_store(uri), "promote") is not None and open_store(uri).exists("annotate/labels.jsonl")

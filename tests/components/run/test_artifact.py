"""Artifacts on every kind of store; a fresh store over the same root stands for another pod."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from attrloop.components.errors import AttrloopError
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.manifest import read_manifest
from tests.stores import Pod, contents


def test_an_artifact_is_continued_in_another_pod_and_finished_for_all(pod: Pod) -> None:
    first = Artifact(pod(), "it/chains", {"adapter": "1"})
    (first.folder / "shard-0").write_text("0")
    first.keep("shard-0")
    second = Artifact(pod(), "it/chains", {"adapter": "1"})
    assert second.manifest is None and (second.folder / "shard-0").read_text() == "0"
    (second.folder / "shard-1").write_text("1")
    made = second.finish("chains", {"shards": 2}, ["shard-0", "shard-1"])
    third = Artifact(pod(), "it/chains", {"adapter": "1"})
    assert third.manifest == made == read_manifest(pod(), "it/chains")
    assert {name: data for name, data in contents(third.folder).items() if name.startswith("shard")} == {
        "shard-0": b"0",
        "shard-1": b"1",
    }


def test_an_artifact_that_is_passed_to_another_process_keeps_its_folder(pod: Pod) -> None:
    artifact = Artifact(pod(), "sft", {})
    passed = pickle.loads(pickle.dumps(artifact))
    (passed.folder / "adapter").mkdir()
    (passed.folder / "adapter" / "weights").write_text("w")
    passed.keep("adapter")
    assert pod().read("sft/adapter/weights") == b"w" and artifact.finish("adapter", {}, ["adapter"]).files == [
        "adapter"
    ]


def test_an_artifact_reuses_nothing_made_from_other_inputs(pod: Pod) -> None:
    for finished in (False, True):
        before = Artifact(pod(), "it/chains", {"adapter": str(finished)})
        (before.folder / "shard-0").write_text("0")
        before.keep("shard-0")
        if finished:
            before.finish("chains", {}, ["shard-0"])
        after = Artifact(pod(), "it/chains", {"adapter": "another"})
        assert after.manifest is None and list(contents(after.folder)) == ["inputs.json"]


def test_a_run_adds_nothing_to_an_artifact_that_another_run_began_anew(pod: Pod) -> None:
    first = Artifact(pod(), "it/chains", {"data": "last week's"})
    (first.folder / "shard-0").write_text("last week's")
    second = Artifact(pod(), "it/chains", {"data": "this week's"})
    first.folder.mkdir(parents=True, exist_ok=True)
    (first.folder / "shard-0").write_text("last week's")
    for done in (lambda: first.keep("shard-0"), lambda: first.finish("chains", {}, ["shard-0"])):
        with pytest.raises(
            AttrloopError, match=r"it/chains: begun anew from other inputs.*Two runs are at work in this workspace"
        ):
            done()
    (second.folder / "shard-0").write_text("this week's")
    second.finish("chains", {}, ["shard-0"])
    assert pod().read("it/chains/shard-0") == b"this week's"


def test_pods_that_begin_an_artifact_at_once_do_not_remove_each_others_work(pod: Pod) -> None:
    start = threading.Barrier(6)

    def work(k: int) -> None:
        store = pod()
        start.wait()
        artifact = Artifact(store, "it/chains", {"adapter": "1"})
        (artifact.folder / f"shard-{k}").write_text(str(k))
        artifact.keep(f"shard-{k}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert [path for path in pod().list("it/chains") if "shard" in path] == [f"it/chains/shard-{k}" for k in range(6)]

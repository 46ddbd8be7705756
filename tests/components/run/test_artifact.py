"""Artifacts on every kind of store; a fresh store over the same root stands for another pod."""

import json
import logging
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run import manifest as manifests
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.manifest import DamagedError, intact, intact_files, read_manifest
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.store import Store
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


def flipped(data: bytes) -> bytes:
    """The same with one bit flipped, in its middle."""
    k = len(data) // 2
    return data[:k] + bytes([data[k] ^ 1]) + data[k + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut at a line end": lambda data: data[: data.rstrip(b"\n").rfind(b"\n") + 1],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "one bit flipped": flipped,
    "longer": lambda data: data + b"x",
}


def finished(pod: Pod) -> Artifact:
    artifact = Artifact(pod(), "it/dpo", {"pairs": "1"})
    if artifact.manifest is None:
        (artifact.folder / "adapter").mkdir(exist_ok=True)
        (artifact.folder / "adapter" / "weights").write_bytes(bytes(range(256)))
        for name in ("metrics.jsonl", "report.json"):
            (artifact.folder / name).write_text('{"step": 1}\n{"step": 2}\n')
        artifact.finish("adapter", {"rows": 2}, ["adapter", "metrics.jsonl"], notes=["report.json"])
    return artifact


@pytest.mark.parametrize("name", ["adapter/weights", "metrics.jsonl", "report.json", "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_and_made_again(
    pod: Pod, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = finished(pod).manifest
    assert before is not None
    store, path = pod(), f"it/dpo/{name}"
    store.write(path, DAMAGES[damage](store.read(path)))
    with pytest.raises(InputError, match=r"it/dpo: damaged .*Remove this folder, then start the same command again"):
        intact(pod(), "it/dpo/adapter" if name.startswith(("adapter", "manifest")) else f"it/dpo/{name}")
    with caplog.at_level(logging.WARNING):
        again = Artifact(pod(), "it/dpo", {"pairs": "1"})
    assert again.manifest is None and list(contents(again.folder)) == ["inputs.json"]
    assert [name in record.message and "made again" in record.message for record in caplog.records] == [True]
    made = finished(pod).manifest
    assert made is not None and made.digest == before.digest and finished(pod).manifest == made


@pytest.mark.parametrize("name", ["adapter/weights", "metrics.jsonl", "report.json", "inputs.json", "manifest.json"])
@pytest.mark.parametrize("folder", [False, True])
def test_a_file_that_is_missing_or_a_folder_is_made_again(tmp_path: Path, name: str, folder: bool) -> None:
    def pod() -> Store:
        return open_store(tmp_path)

    finished(pod)
    file = tmp_path / "it/dpo" / name
    file.unlink()
    if folder:
        file.mkdir()
    again = Artifact(pod(), "it/dpo", {"pairs": "1"})
    assert (again.manifest is not None) == (name == "inputs.json"), "nothing reads it any more"
    if name == "manifest.json" and not folder:
        assert (again.folder / "adapter" / "weights").exists(), "what is there may be gone on with"
    assert finished(pod).manifest is not None


def test_one_bit_of_a_large_file_is_found_when_it_is_read(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Opening looks at size and version alone; here both stay the same, as when a disk loses a bit."""
    monkeypatch.setattr(manifests, "SMALL", 100)
    weights = finished(pod).folder / "adapter" / "weights"
    store = pod()
    if "://" in store.root:
        return
    known = weights.stat()
    weights.write_bytes(flipped(weights.read_bytes()))
    os.utime(weights, ns=(known.st_atime_ns, known.st_mtime_ns))
    manifests._hashed.clear()  # another process
    assert Artifact(pod(), "it/dpo", {"pairs": "1"}).manifest is not None
    with pytest.raises(DamagedError, match="adapter/weights is not what was written"):
        intact(store, "it/dpo/adapter")
    assert intact(store, "it/dpo/metrics.jsonl").read_text().count("step") == 2


def test_opening_a_finished_artifact_in_a_bucket_downloads_none_of_its_files(pod: Pod) -> None:
    finished(pod)
    store = pod()
    manifest = read_manifest(store, "it/dpo")
    assert manifest is not None
    manifests.verify(store, "it/dpo", manifest)
    if "://" in store.root:
        assert not list(store._copies.rglob("weights"))  # type: ignore[attr-defined]


def test_manifests_of_version_1_are_read_and_compared(pod: Pod) -> None:
    made = finished(pod).manifest
    assert made is not None
    old = {key: value for key, value in made.model_dump().items() if key not in ("members", "seal")}
    pod().write("it/dpo/manifest.json", json.dumps(old | {"schema_version": 1}).encode())
    assert Artifact(pod(), "it/dpo", {"pairs": "1"}).manifest is not None
    assert intact(pod(), "it/dpo/report.json").stat().st_size == 24
    assert (intact(pod(), "it/dpo/adapter") / "weights").exists()
    assert [file.name for file in intact_files(pod(), "it/dpo")] == ["adapter", "metrics.jsonl"]
    pod().write("it/dpo/metrics.jsonl", b"")
    with pytest.raises(DamagedError, match="its files are not what was written"):
        intact(pod(), "it/dpo/adapter")
    assert Artifact(pod(), "it/dpo", {"pairs": "1"}).manifest is None


def test_what_was_never_there_is_no_damage(pod: Pod) -> None:
    with pytest.raises(InputError, match="it/dpo: not finished"):
        intact(pod(), "it/dpo/adapter")
    finished(pod)
    with pytest.raises(InputError, match="it/dpo/elsewhere: no such file"):
        intact(pod(), "it/dpo/elsewhere")


@pytest.mark.parametrize("damage", DAMAGES)
def test_kept_work_that_is_damaged_is_not_gone_on_with(pod: Pod, damage: str) -> None:
    first = Artifact(pod(), "it/chains", {"adapter": "1"})
    for k in range(2):
        (first.folder / f"shard-{k}").write_text(f"{k}\nrow\n")
        first.keep(f"shard-{k}")
    (first.folder / "checkpoint").mkdir()
    (first.folder / "checkpoint" / "state").write_text("a\nb\n")
    first.keep("checkpoint")
    store = pod()
    for path in ("it/chains/shard-1", "it/chains/checkpoint/state"):
        store.write(path, DAMAGES[damage](store.read(path)))
    second = Artifact(pod(), "it/chains", {"adapter": "1"})
    assert [second.kept(name) for name in ("shard-0", "shard-1", "shard-2", "checkpoint")] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("data", [b"", b"{", b'{"adapter": "2"}', None])
def test_work_whose_record_of_inputs_is_damaged_or_missing_is_begun_anew(pod: Pod, data: bytes | None) -> None:
    first, store = Artifact(pod(), "it/chains", {"adapter": "1"}), pod()
    (first.folder / "shard-0").write_text("0")
    first.keep("shard-0")
    place = Path(store.root, "it/chains/inputs.json")
    if data is not None:
        store.write("it/chains/inputs.json", data)
    elif "://" not in store.root:
        place.unlink()
        place.mkdir()
        assert list(contents(Artifact(pod(), "it/chains", {"adapter": "1"}).folder)) == ["inputs.json"]
        (first.folder / "shard-0").write_text("0")
        place.unlink()
    else:
        return
    assert list(contents(Artifact(pod(), "it/chains", {"adapter": "1"}).folder)) == ["inputs.json"]

"""What every store promises, on the local file system and in buckets of every kind.

A fresh store over the same root stands for another pod.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.storage.buckets import SCHEMES, explained, open_bucket
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.store import Store
from tests.emulator import Gateway, versions
from tests.stores import Pod, contents


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def bucket_pod(bucket: str) -> Pod:
    """Opens the same root in a bucket as each pod does for itself."""
    return lambda: open_store(f"{bucket}/runs/run")


def test_files_are_written_replaced_listed_and_removed(pod: Pod) -> None:
    store, other = pod(), pod()
    for path in ("config.json", "a/one", "a/b/two words", "ab/three"):
        store.write(path, path.encode())
    store.write("a/one", b"new")
    assert other.list("a") == ["a/b/two words", "a/one"] and other.list("") == [
        "a/b/two words",
        "a/one",
        "ab/three",
        "config.json",
    ]
    assert other.read("a/one") == b"new" and other.file("a/one").read_bytes() == b"new"
    assert other.exists("ab/three") and not other.exists("ab/four") and not other.exists("a"), "a folder is no file"
    store.remove("a")
    store.remove("a")
    assert other.list("") == ["ab/three", "config.json"] and other.list("a") == [] and not other.exists("a/one")


def test_files_have_the_names_that_they_were_given(pod: Pod) -> None:
    store, other = pod(), pod()
    paths = sorted(
        f"{name}/{name}" for name in ("a%20b", "what?x=1", "#1", "shop[2]*", 'it\'s "é" 中', "-a+b&c=d;e", "~{x}$y")
    )
    for path in paths:
        store.write(path, path.encode())
    assert other.list("") == paths and [other.read(path).decode() for path in paths] == paths
    for path in paths:
        folder = path.partition("/")[0]
        assert other.file(path).read_text() == path and not other.create(path, b"again")
        (other.folder(folder) / "new [1]?.txt").write_text("new")
        other.keep(folder)
        assert pod().list(folder) == sorted([path, f"{folder}/new [1]?.txt"])
        other.remove(folder)
    assert pod().list("") == []


def test_one_of_several_concurrent_creations_succeeds(pod: Pod) -> None:
    start = threading.Barrier(12)

    def create(k: int) -> bool:
        store = pod()
        start.wait()
        return store.create("promotions/00000001.json", str(k).encode())

    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(create, range(12)))
    assert sum(made) == 1 and pod().read("promotions/00000001.json") == str(made.index(True)).encode()


def test_another_pod_finds_what_was_kept(pod: Pod) -> None:
    folder = pod().folder("it/chains")
    (folder / "shard-0").write_bytes(b"zero")
    (folder / "checkpoint" / "deep").mkdir(parents=True)
    (folder / "checkpoint" / "deep" / "weights").write_bytes(b"w")
    (folder / "checkpoint" / "state").write_bytes(b"s")
    store = pod()
    store.folder("it/chains")
    first = pod()
    mine = first.folder("it/chains")
    for name in ("shard-0", "checkpoint/state", "checkpoint/deep/weights"):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(name.encode())
    first.keep("it/chains/shard-0")
    first.keep("it/chains/checkpoint")
    expected = {
        "shard-0": b"shard-0",
        "checkpoint/state": b"checkpoint/state",
        "checkpoint/deep/weights": b"checkpoint/deep/weights",
    }
    assert contents(pod().folder("it/chains")) == contents(store.folder("it/chains")) == expected


def test_what_was_not_kept_dies_with_the_pod(bucket_pod: Pod) -> None:
    first = bucket_pod()
    folder = first.folder("sft")
    for name in ("kept", "not kept"):
        (folder / name).write_text(name)
    first.keep("sft/kept")
    assert list(contents(bucket_pod().folder("sft"))) == ["kept"]
    assert list(contents(first.folder("sft"))) == ["kept"], "asked again, a folder is what is stored"


def test_a_folder_holds_nothing_that_was_removed_or_replaced_elsewhere(pod: Pod) -> None:
    store, other = pod(), pod()
    for name in ("stays", "goes", "changes"):
        store.write(f"f/{name}", b"1")
    assert len(contents(other.folder("f"))) == 3
    store.remove("f")
    store.write("f/stays", b"1")
    store.write("f/changes", b"2")
    assert contents(other.folder("f")) == {"stays": b"1", "changes": b"2"}


def test_a_folder_kept_again_loses_what_is_gone_and_takes_what_changed(pod: Pod) -> None:
    store = pod()
    folder = store.folder("checkpoints")
    for name in ("old", "model"):
        (folder / name).write_text("1")
    store.keep("checkpoints")
    (folder / "old").unlink()
    (folder / "model").write_text("2")
    (folder / ".tmp-half").write_text("half")
    store.keep("checkpoints")
    assert pod().list("checkpoints") == ["checkpoints/model"] and pod().read("checkpoints/model") == b"2"


def test_keeping_what_is_not_there_removes_nothing(bucket_pod: Pod) -> None:
    bucket_pod().write("adapter/weights", b"w")
    with pytest.raises(FileNotFoundError):
        bucket_pod().keep("adapter")
    assert bucket_pod().list("adapter") == ["adapter/weights"]


KEEPER = """
import os, sys
from attrloop.components.storage.opening import open_store
store = open_store(sys.argv[1])
folder = store.folder("checkpoint")
for k in range(20):
    (folder / f"{k:02d}").write_bytes(os.urandom(9 * 2**20))
print("keeping", flush=True)
store.keep("checkpoint")
"""


def test_a_kill_while_a_folder_is_kept_leaves_no_folder(bucket: str, bucket_pod: Pod) -> None:
    def uploaded() -> int:
        return len([path for path in versions(bucket) if "being-kept" not in path])

    command = [sys.executable, "-c", KEEPER, bucket_pod().root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "keeping\n"
        while not uploaded():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    time.sleep(0.5)  # what the process had sent still arrives
    assert process.returncode == -signal.SIGKILL and 0 < uploaded() < 20, "the kill came in between"
    assert bucket_pod().list("checkpoint") == [] and contents(bucket_pod().folder("checkpoint")) == {}
    store = bucket_pod()
    (store.folder("checkpoint") / "00").write_bytes(b"another attempt")
    store.keep("checkpoint")
    assert contents(bucket_pod().folder("checkpoint")) == {"00": b"another attempt"}, "the first attempt left nothing"


def test_a_folder_is_hidden_until_its_last_file_is_there(faulty: Gateway, bucket_pod: Pod) -> None:
    store = bucket_pod()
    folder = store.folder("adapter")
    for name in ("config", "weights"):
        (folder / name).write_text(name)
    number = itertools.count(1)
    faulty.refuse = lambda method, path: 403 if faulty.is_upload(method, path) and next(number) == 3 else None
    with pytest.raises(AttrloopError, match="HTTP 403"):
        store.keep("adapter")
    assert bucket_pod().list("adapter") == [] and contents(bucket_pod().folder("adapter")) == {}
    faulty.seen.clear()
    store.keep("adapter")
    assert len(faulty.uploads()) == 2, "the mark again, and the one file that is missing"
    assert contents(bucket_pod().folder("adapter")) == {"config": b"config", "weights": b"weights"}


def test_large_files_arrive_whole(pod: Pod) -> None:
    data, store = os.urandom(70 * 2**20), pod()
    (store.folder("sft") / "optimizer.pt").write_bytes(data)
    store.keep("sft/optimizer.pt")
    assert pod().file("sft/optimizer.pt").read_bytes() == data


def test_a_folder_of_many_shards_arrives_whole(pod: Pod) -> None:
    store = pod()
    folder = store.folder("chains")
    shards = {f"shard-{k:05d}.parquet": f"{k}".encode() * 50 for k in range(250)}
    for name, data in shards.items():
        (folder / name).write_bytes(data)
    store.keep("chains")
    assert contents(pod().folder("chains")) == shards


def test_only_what_is_new_is_transferred(faulty: Gateway, bucket_pod: Pod) -> None:
    store, other = bucket_pod(), bucket_pod()
    for k in range(3):
        (store.folder("chains") / f"shard-{k}").write_text("x")
        store.keep(f"chains/shard-{k}")
    other.folder("chains")
    store.write("chains/shard-3", b"y")
    faulty.seen.clear()
    other.folder("chains")
    other.file("chains/shard-0")
    (downloaded,) = faulty.downloads()
    assert "shard-3" in downloaded


def test_what_is_missing_is_named_with_a_remedy(pod: Pod) -> None:
    store = pod()
    for ask in (store.read, store.file):
        with pytest.raises(InputError) as caught:
            ask("register/result.json")
        problem = caught.value.problems[0]
        assert (
            problem.where == f"{store.root}/register/result.json"
            and "no such file" in problem.what
            and "run the step that writes it" in problem.remedy
        )


def test_a_missing_bucket_is_named(emulator_url: str, scheme: str) -> None:
    store = open_store(f"{scheme}://there-is-none/run")
    for ask in (lambda: store.write("a", b""), lambda: store.list(""), lambda: store.folder("a"), store.check):
        with pytest.raises(InputError, match=r"//there-is-none/run\S*: no such file or bucket\..*create the bucket"):
            ask()


def test_refused_access_names_the_file_and_the_role(faulty: Gateway, bucket_pod: Pod, scheme: str) -> None:
    role = {"gs": "roles/storage.objectUser.*workload identity", "s3": "s3:GetObject, s3:PutObject.*this task's role"}
    store = bucket_pod()
    (store.folder("sft") / "a").write_text("a")
    faulty.refuse = lambda method, path: 403
    calls: list[Callable[[], object]] = [
        lambda: store.read("sft/a"),
        lambda: store.write("sft/a", b""),
        lambda: store.create("sft/a", b""),
        lambda: store.exists("sft/a"),
        lambda: store.keep("sft/a"),
        lambda: store.file("sft/a"),
        lambda: store.folder("sft"),
        lambda: store.remove("sft"),
        lambda: store.list("sft"),
    ]
    for call in calls:
        with pytest.raises(AttrloopError, match=rf"{store.root}/sft.*access is refused \(HTTP 403.*{role[scheme]}"):
            call()
    with pytest.raises(AttrloopError, match="access is refused"):
        store.check()


def test_a_local_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_store(tmp_path / "file" / "run")
    for call in (lambda: store.write("a", b""), lambda: store.create("a", b""), lambda: store.folder("a")):
        with pytest.raises(AttrloopError, match=rf"{store.root}/a: cannot be used .*choose another place"):
            call()
    assert "is not a folder" in str(store.check()[0])


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        ("gs", "no Google credentials that can be used .* service account with workload identity"),
        ("s3", "no AWS credentials that can be used .* service account with an IAM role"),
    ],
)
def test_without_credentials_the_remedy_is_the_account_of_the_pod(scheme: str, said: str, tmp_path: Path) -> None:
    known = ("GOOGLE_", "STORAGE_", "CLOUDSDK", "AWS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(known)}
    nowhere = {"NO_GCE_CHECK": "true", "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    code = "from attrloop.components.storage.opening import open_store; open_store('{}://a-bucket/run').read('config.json')"
    done = subprocess.run(
        [sys.executable, "-c", code.format(scheme)],
        capture_output=True,
        text=True,
        env=environment | nowhere,
        check=False,
    )
    assert re.search(f"AttrloopError: {scheme}://a-bucket/run/config.json: {said}", done.stderr), done.stderr


def test_a_service_that_is_down_is_out_of_reach(monkeypatch: pytest.MonkeyPatch, emulated_s3: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(
        AttrloopError, match=r"s3://a-bucket/run/a: out of reach \(.*start again: what is finished is kept"
    ):
        open_store("s3://a-bucket/run").read("a")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (400, "ExpiredToken", "no AWS credentials that can be used"),
        (403, "InvalidAccessKeyId", "no AWS credentials that can be used"),
        (403, "AccessDenied", "access is refused"),
        (404, "NoSuchBucket", "no such file or bucket"),
        (412, "PreconditionFailed", "the request failed"),
        (501, "NotImplemented", "the request failed"),
        (503, "SlowDown", "out of reach"),
    ],
)
def test_what_s3_answers_is_explained(status: int, code: str, said: str) -> None:
    bucket = open_bucket("s3://bucket")
    answer: Any = {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(AttrloopError, match=rf"s3://bucket/a: {said}"), explained(bucket, "s3://bucket/a"):
        raise ClientError(answer, "GetObject")


def test_a_service_that_falters_is_asked_again(faulty: Gateway, bucket_pod: Pod) -> None:
    faulty.refuse = lambda method, path: 503 if len(faulty.seen) == 1 else None
    store = bucket_pod()
    store.write("a", b"1")
    assert len(faulty.seen) == 2 and store.read("a") == b"1"


def test_a_creation_whose_answer_is_lost_has_succeeded(faulty: Gateway, bucket_pod: Pod) -> None:
    faulty.lose = lambda method, path: faulty.is_upload(method, path) and len(faulty.seen) == 1
    assert bucket_pod().create("promotions/00000001.json", b"mine")
    assert len(faulty.seen) > 1, "it was asked again"
    assert (
        not bucket_pod().create("promotions/00000001.json", b"theirs")
        and bucket_pod().read("promotions/00000001.json") == b"mine"
    )


def test_a_bucket_itself_is_no_workspace(bucket: str) -> None:
    assert "Name a folder in it" in str(open_store(bucket).check()[0]) and open_store(f"{bucket}/run").check() == []


@pytest.mark.parametrize("ask", [lambda store: store.file("a").read_bytes(), lambda store: store.read("a")])
def test_a_download_that_breaks_off_is_tried_again(
    faulty: Gateway, bucket_pod: Pod, ask: Callable[[Store], bytes]
) -> None:
    data = os.urandom(2**20)
    bucket_pod().write("a", data)
    faulty.cut = lambda method, path: faulty.is_download(method, path) and len(faulty.downloads()) == 1
    assert ask(bucket_pod()) == data and len(faulty.downloads()) == 2


def test_an_object_that_stands_for_a_folder_is_no_file(bucket: str, bucket_pod: Pod) -> None:
    open_bucket(bucket).write("runs/run/sft/", b"")
    bucket_pod().write("sft/a", b"1")
    assert bucket_pod().list("") == ["sft/a"] and contents(bucket_pod().folder("sft")) == {"a": b"1"}


def test_an_object_that_is_replaced_meanwhile_is_not_taken_for_the_one_looked_at(bucket: str, tmp_path: Path) -> None:
    bucket_of, target = open_bucket(bucket), tmp_path / "copy"
    bucket_of.write("a", b"old")
    found = bucket_of.look("a")
    bucket_of.write("a", b"new")
    assert found is not None
    with pytest.raises(AttrloopError, match=f"{bucket}/a: "), explained(bucket_of, f"{bucket}/a"):
        bucket_of.download("a", found.version, target)


def test_an_unknown_scheme_is_refused() -> None:
    known = "Give a local path or gs://<bucket>/<path> or s3://<bucket>/<path>"
    with pytest.raises(InputError, match=rf"ftp://bucket/run: 'ftp' is not a kind of storage. {known}"):
        open_store("ftp://bucket/run")
    with pytest.raises(InputError, match=r"s3:///run: names no bucket. Write s3://<bucket>/<path>"):
        open_store("s3:///run")


def test_a_store_whose_library_is_missing_says_what_to_install() -> None:
    code = "import sys; sys.modules['boto3'] = None; from attrloop.components.storage.opening import open_store; {}"
    done = subprocess.run(
        [sys.executable, "-c", code.format("open_store('s3://bucket/run')")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "needs the Python package boto3, which is not installed. Install attrloop[s3]" in done.stderr


def test_a_local_store_does_without_the_libraries_of_buckets() -> None:
    code = """
import sys
from attrloop.components.storage import buckets, inputs, opening
opening.open_store(".").check()
inputs.fetch([], 1)
inputs.exists(".")
sys.exit(any(name in sys.modules for name in ("google.cloud.storage", "boto3", "botocore")))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

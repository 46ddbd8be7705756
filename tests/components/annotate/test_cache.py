"""No reply that was paid for is lost: with two processes at once, after kills and restarts, on disk and in a bucket."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attrloop.components.annotate.cache import Cache, Paid
from attrloop.components.run.layout import ANNOTATE_CACHE
from attrloop.components.storage.opening import open_store


@pytest.fixture(params=["disk", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.getfixturevalue('bucket')}/run" if request.param == "bucket" else str(tmp_path / "run")


def pay(cache: Cache, *keys: str, close: bool = True, **values: object) -> None:
    for key in keys:
        cache.add(Paid.model_validate({"key": key, "listing": key, "answers": {}, "cost": 0.01} | values))
    if close:
        cache.close()


def age(folder: Path) -> None:
    for file in folder.rglob("*.jsonl"):
        os.utime(file, (long_ago := time.time() - 25 * 3600, long_ago))


def test_two_processes_at_once_lose_nothing(root: str) -> None:
    one, other = Cache(open_store(root)), Cache(open_store(root))
    first, second = [f"a{k}" for k in range(50)], [f"b{k}" for k in range(50)]
    pay(one, *first)
    pay(other, *second)
    found = Cache(open_store(root))
    assert (found.calls, found.spent) == (100, pytest.approx(1.0)) and all(found.get(key) for key in first + second)


def test_a_process_without_a_reply_leaves_no_file(root: str) -> None:
    Cache(open_store(root)).close()
    assert open_store(root).list(ANNOTATE_CACHE) == []


def test_the_one_file_of_an_older_workspace_is_read_and_stays(root: str) -> None:
    lines = [
        Paid(key=key, listing=key, failed="off the list", cost=0.01).model_dump_json(exclude={"id"})
        for key in ("a", "b", "b")
    ]
    lines.append('{"key": "b", "listing": "b", "forgotten": true}')
    open_store(root).write(f"{ANNOTATE_CACHE}/cache.jsonl", ("\n".join(lines) + '\n{"key": "half a li').encode())
    cache = Cache(open_store(root))
    assert (cache.calls, cache.spent) == (3, pytest.approx(0.03)) and cache.get("a") and not cache.get("b")
    cache.forget(Paid(key="a", listing="a"))
    pay(cache, "c")
    found = Cache(open_store(root))
    assert (found.calls, found.get("a")) == (4, None) and len(open_store(root).list(ANNOTATE_CACHE)) == 2


def test_a_half_written_last_line_of_a_killed_process_is_left_out(tmp_path: Path) -> None:
    killed = Cache(open_store(tmp_path))
    pay(killed, "a", "b", close=False)
    with killed.path.open("ab") as file:
        file.write(b'{"key": "half a li')
    pay(Cache(open_store(tmp_path)), "c")
    age(tmp_path)
    pay(Cache(open_store(tmp_path)), "d")
    assert Cache(open_store(tmp_path)).calls == 4


def test_the_files_of_processes_that_are_long_gone_become_one(tmp_path: Path) -> None:
    for k in range(5):
        cache = Cache(open_store(tmp_path))
        pay(cache, f"key-{k}", "shared", close=False)
        cache.forget(Paid(key="shared", listing="shared"))
        cache.close()
        age(tmp_path)
    assert len(open_store(tmp_path).list(ANNOTATE_CACHE)) == 2, "and that of the last"
    alive = Cache(open_store(tmp_path))
    pay(alive, "alive", close=False)
    pay(Cache(open_store(tmp_path)), "last")
    assert len(open_store(tmp_path).list(ANNOTATE_CACHE)) == 3, "a process that may still write keeps its file"
    pay(alive, "later")
    found = Cache(open_store(tmp_path))
    assert (found.calls, found.get("shared")) == (13, None) and all(
        found.get(key) for key in ("key-0", "key-4", "alive", "last", "later")
    )


def test_a_line_of_long_ago_never_comes_after_one_that_takes_it_out_of_use(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    long_gone = Cache(store)
    long_gone.add(Paid(key="k", listing="l", failed="unusable", cost=1.0))
    long_gone.close()
    age(tmp_path)
    killed = Cache(store)
    killed.forget(Paid(key="k", listing="l"))
    killed.add(Paid(key="k", listing="l", answers={"colour": ("", "red")}, cost=1.0))
    pay(Cache(store), "another")
    age(tmp_path)
    pay(Cache(store), "last")
    found = Cache(store).get("k")
    assert found is not None and found.answers


def test_in_a_bucket_too(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attrloop.components.annotate.cache._QUIET", -60.0)
    for k in range(3):
        pay(Cache(open_store(f"{bucket}/run")), f"key-{k}")
    assert len(open_store(f"{bucket}/run").list(ANNOTATE_CACHE)) == 2
    assert Cache(open_store(f"{bucket}/run")).calls == 3


def test_lines_that_were_copied_when_a_kill_came_count_once(tmp_path: Path) -> None:
    cache = Cache(open_store(tmp_path))
    pay(cache, "a", "b")
    shutil.copytree(cache.path.parent, cache.path.parents[1] / "later")
    found = Cache(open_store(tmp_path))
    assert (found.calls, found.spent) == (2, pytest.approx(0.02))


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: b"",
        lambda line: b"garbage",
        lambda line: line[: len(line) // 2],
        lambda line: line.replace(b'"cost":0.01', b'"cost":9.01'),
        lambda line: line.replace(b'"listing":"b"', b'"listing":"c"'),
        lambda line: line[:20] + bytes([line[20] ^ 128]) + line[21:],
    ],
)
def test_a_damaged_line_is_named_and_left_out_and_counts_as_the_dearest_reply(
    root: str, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(open_store(root))
    pay(cache, "a", "b", "c", close=False)
    pay(cache, "d", cost=0.05)
    path = next(path for path in open_store(root).list(ANNOTATE_CACHE))
    lines = open_store(root).read(path).split(b"\n")
    open_store(root).write(path, b"\n".join([lines[0], damage(lines[1]), *lines[2:]]))
    found = Cache(open_store(root))
    assert found.get("b") is None and all(found.get(key) for key in "acd")
    assert (found.calls, found.spent, found.damaged) == (4, pytest.approx(0.01 * 2 + 0.05 * 2), 1)
    assert "replies.jsonl:2: a damaged line" in caplog.text
    pay(found, "b")
    assert Cache(open_store(root)).get("b")

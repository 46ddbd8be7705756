"""A store that cannot do all that a run needs is found out before anything is made, and nothing is left there."""

import re
from pathlib import Path

import pytest
from typing_extensions import override

from attrloop.components.storage.bucket_store import BucketStore
from attrloop.components.storage.buckets import SCHEMES
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.probe import probe
from tests.emulator import Gateway, versions
from tests.stores import contents


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


def said(root: str) -> str:
    return "\n".join(map(str, probe(open_store(root))))


def test_a_bucket_that_allows_everything_has_no_problem_and_keeps_nothing(bucket: str) -> None:
    open_store(f"{bucket}/runs/run").write("config.json", b"1")
    assert said(f"{bucket}/runs/run") == said(f"{bucket}/runs") == said(bucket) == ""
    assert [path.lstrip("/") for path in versions(bucket)] == ["runs/run/config.json"]


def test_a_folder_has_no_problem_and_is_not_made(tmp_path: Path) -> None:
    assert said(str(tmp_path / "runs [2]?" / "run")) == "" and contents(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_refuses_removal_is_found(faulty: Gateway, bucket: str) -> None:
    removes = r"\?delete\b" if bucket.startswith("s3") else r"$^"
    faulty.refuse = lambda method, path: 403 if method == "DELETE" or re.search(removes, path) else None
    text = said(f"{bucket}/runs/run")
    assert text.startswith(f"{bucket}/runs/run: files cannot be removed here (") and "HTTP 403" in text
    assert "retention policy" in text


def test_a_bucket_that_refuses_to_replace_is_found(faulty: Gateway, bucket: str) -> None:
    faulty.refuse = lambda method, path: 403 if len(faulty.uploads()) == 3 and faulty.is_upload(method, path) else None
    text = said(f"{bucket}/runs/run")
    assert "files cannot be replaced here (" in text and "HTTP 403" in text
    assert list(versions(bucket)) == [], "what could be removed is"


def test_a_bucket_that_refuses_to_create_is_found(faulty: Gateway, bucket: str) -> None:
    faulty.refuse = lambda method, path: 403 if faulty.is_upload(method, path) else None
    assert "files cannot be created here (" in said(f"{bucket}/runs/run")


def test_an_account_that_may_only_create_can_use_a_place_where_nothing_is_replaced(
    faulty: Gateway, bucket: str
) -> None:
    """It may be told that it must not replace a file, rather than that the file is there."""
    removes = r"\?delete\b" if bucket.startswith("s3") else r"$^"

    def refuse(method: str, path: str) -> int | None:
        again = bucket.startswith("gs") and len(faulty.uploads()) == 2 and faulty.is_upload(method, path)
        return 403 if again or method == "DELETE" or re.search(removes, path) else None

    faulty.refuse = refuse
    place = open_store(f"{bucket}/runs/promotions/m")
    assert probe(place, creates_only=True) == [] and len(versions(bucket)) == 1, "what must not be removed stays"
    (problem,) = probe(place)
    assert "files cannot be removed" in problem.what


def test_a_store_that_lets_two_processes_create_the_same_file_is_found(bucket: str) -> None:
    class Careless(BucketStore):
        """Takes no condition, as some stores that speak a known protocol."""

        @override
        def create(self, path: str, data: bytes) -> bool:
            self.write(path, data)
            return True

    (problem,) = probe(Careless(f"{bucket}/runs/run"))
    assert "created by one process alone" in problem.what and "a second process could create it too" in problem.what
    assert list(versions(bucket)) == []


def test_a_folder_that_only_seems_to_be_writable_is_found() -> None:
    (problem,) = probe(open_store("/proc/runs/run"))
    assert problem.where == "/proc/runs/run" and "files cannot be" in problem.what

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from attrloop.components.tracking import code as module
from attrloop.components.tracking.code import code_digest, git_sha


def forget() -> None:
    git_sha.cache_clear()
    code_digest.cache_clear()


@pytest.fixture
def forgetful() -> Iterator[None]:
    yield
    forget()


@pytest.mark.usefixtures("forgetful")
def test_the_commit_of_a_strangers_repository_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages" / "components"
    (folder / "tracking").mkdir(parents=True)
    (folder / "tracking" / "code.py").write_text("x = 1\n")
    (tmp_path / "notes.txt").write_text("theirs")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "notes.txt"], [*who, "commit", "-qm", "theirs"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(module, "__file__", str(folder / "tracking" / "code.py"))
    digests = []
    for text in ("x = 1\n", "x = 2\n"):
        (folder / "tracking" / "code.py").write_text(text)
        forget()
        assert git_sha() == ""
        digests.append(code_digest())
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", *who, "commit", "-qm", "ours now"], cwd=tmp_path, check=True)
    forget()
    assert code_digest() == git_sha() != ""
    assert digests[0] != digests[1]

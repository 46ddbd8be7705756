"""The ledger: what was done to its files is found by everyone who reads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.promote.ledger import Entry, Ledger
from attrloop.components.promote.promote import promote, rollback
from attrloop.components.register_adapter.register import register
from attrloop.components.storage.opening import open_store
from tests.stores import Pod
from tests.tracked import make_run

NAME = "mug & co"


def entry(number: int, **fields: object) -> Entry:
    made = {"seq": number, "model": NAME, "action": "promote", "version": str(number), "from": None, "to": str(number)}
    return Entry.model_validate({**made, "reason": "better", "actor": "me", "time": "2026-01-01", **fields})


def filled(folder: Path, count: int = 4) -> Path:
    ledger = Ledger(open_store(folder), NAME)
    for number in range(1, count + 1):
        assert ledger.append(entry(number))
    return folder / ledger.folder


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _replace(number: int, old: bytes, new: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = files_of(folder)[number - 1]
        assert old in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(old, new))

    return damage


def _write(number: int, data: bytes) -> Callable[[Path], None]:
    return lambda folder: _ignore(files_of(folder)[number - 1].write_bytes(data))


def _cut(number: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = files_of(folder)[number - 1]
        file.write_bytes(file.read_bytes()[:90])

    return damage


def _remove(*numbers: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for file in [file for k, file in enumerate(files_of(folder), 1) if k in numbers]:
            file.unlink()

    return damage


def _swap(folder: Path) -> None:
    first, second = files_of(folder)[1:3]
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def _renumber(folder: Path) -> None:
    """Takes the second entry out and moves those after it up, with their numbers."""
    files = files_of(folder)
    for number, file in enumerate(files[2:], 2):
        raw = json.loads(file.read_bytes())
        files[number - 1].write_text(json.dumps(raw | {"seq": number}))
    files[-1].unlink()


def _folder(folder: Path) -> None:
    file = files_of(folder)[1]
    file.unlink()
    file.mkdir()


def _ignore(value: object) -> None:
    return None


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "the first is missing": (_remove(1), "00000001.json: this entry of the ledger is missing"),
    "one in the middle is missing": (_remove(2), "00000002.json: this entry of the ledger is missing"),
    "the last is missing": (_remove(4), "00000004.json: this entry of the ledger is missing"),
    "the last two are missing": (_remove(3, 4), "00000003.json: this entry of the ledger is missing"),
    "one is empty": (_write(2, b""), "00000002.json: this entry of the ledger is empty"),
    "the last is empty": (_write(4, b""), "00000004.json: this entry of the ledger is empty"),
    "one is cut": (_cut(2), "00000002.json: this entry of the ledger is damaged"),
    "one is another record": (_write(2, b"{}"), "00000002.json: this entry of the ledger is damaged"),
    "the first was changed": (_replace(1, b"better", b"bettes"), "00000001.json.*not the one that entry 2 was written"),
    "one was changed": (_replace(3, b'"to": "3"', b'"to": "2"'), "00000003.json.*not the one that entry 4 was written"),
    "the last was changed": (_replace(4, b"better", b"worse!"), "00000004.json.*is not what was written"),
    "a chain was cut": (
        _replace(3, b'"previous"', b'"previouz"'),
        "00000003.json: this entry of the ledger is damaged",
    ),
    "two changed places": (_swap, "00000002.json.*not what was written: it is entry 3"),
    "one was taken out": (_renumber, "0000000[12].json: this entry of the ledger is"),
    "one is a folder": (_folder, "00000002.json: this entry of the ledger is missing"),
    "a digest is empty": (
        lambda folder: _ignore((folder / "heads" / "00000004").write_bytes(b"")),
        "00000004.json.*is not what was written: its digest is not that in .*heads/00000004",
    ),
    "a digest was changed": (
        lambda folder: _ignore((folder / "heads" / "00000004").write_text("0123456789abcdef")),
        "00000004.json.*is not what was written",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_done_to_an_entry_is_found_and_named(tmp_path: Path, damage: str) -> None:
    folder = filled(tmp_path)
    assert [found.seq for found in Ledger(open_store(tmp_path), NAME).entries()] == [1, 2, 3, 4]
    change, told = DAMAGES[damage]
    change(folder)
    for read in (
        lambda: Ledger(open_store(tmp_path), NAME).entries(),
        lambda: Ledger(open_store(tmp_path), NAME).head(),
        lambda: Ledger(open_store(tmp_path), NAME).append(entry(5)),
    ):
        with pytest.raises(InputError, match=told) as error:
            read()
        assert "Restore it from a backup" in str(error.value)


def test_promote_and_rollback_find_a_changed_entry(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run = make_run(tmp_path, name, {"base": 0.3, "sft": 0.6 if name == "one" else 0.9}, seed=len(name))
        register(run.uri, run.state)
        if name == "one":
            promote(run.uri, run.state)
            file = next((tmp_path / "promotions").rglob("*.json"))
            file.write_text(file.read_text().replace('"to": "1"', '"to": "7"'))
    for call in (lambda: promote(run.uri, run.state), lambda: rollback(run.uri, to="1")):
        with pytest.raises(InputError, match=r"00000001\.json: .*is not what was written: .*Restore"):
            call()


def test_a_ledger_of_an_earlier_version_is_read_and_its_last_entry_protected(tmp_path: Path) -> None:
    folder = filled(tmp_path, 3)
    shutil.rmtree(folder / "heads")
    for file in files_of(folder):
        raw = json.loads(file.read_bytes())
        raw.pop("previous")
        file.write_text(json.dumps(raw, indent=1))
    ledger = Ledger(open_store(tmp_path), NAME)
    assert [found.previous for found in ledger.entries()] == [None] * 3
    assert ledger.append(entry(4)) and ledger.append(entry(5))
    assert [found.seq for found in Ledger(open_store(tmp_path), NAME).entries()] == [1, 2, 3, 4, 5]
    _replace(3, b"better", b"worse!")(folder)
    with pytest.raises(InputError, match=r"00000003.json.*not the one that entry 4 was written after"):
        Ledger(open_store(tmp_path), NAME).entries()


def test_an_entry_whose_writer_was_killed_before_it_left_the_digest_is_read(tmp_path: Path) -> None:
    folder = filled(tmp_path, 2)
    (folder / "heads" / "00000002").unlink()
    ledger = Ledger(open_store(tmp_path), NAME)
    assert [found.seq for found in ledger.entries()] == [1, 2] and ledger.append(entry(3))
    assert [found.seq for found in Ledger(open_store(tmp_path), NAME).entries()] == [1, 2, 3]


def test_a_promoter_needs_no_right_but_to_create(pod: Pod) -> None:
    class CreateOnly(type(pod())):  # type: ignore[misc]
        """What an account sees that may read, list and create."""

        def write(self, path: str, data: bytes) -> None:
            raise AttrloopError(f"{path}: access is refused")

        def remove(self, prefix: str) -> None:
            raise AttrloopError(f"{prefix}: access is refused")

    for number in (1, 2, 3):
        assert Ledger(CreateOnly(pod().root), NAME).append(entry(number))
    assert [found.seq for found in Ledger(pod(), NAME).entries()] == [1, 2, 3]


def test_of_two_promoters_one_is_faster(pod: Pod) -> None:
    one, other = Ledger(pod(), NAME), Ledger(pod(), NAME)
    assert one.entries() == other.entries() == []
    assert one.append(entry(1)) and not other.append(entry(1, reason="also better"))
    assert [found.reason for found in other.entries()] == ["better"]

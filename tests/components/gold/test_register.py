"""Where splits are remembered: in a folder or a bucket, by several runs at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from attrloop.components.errors import InputError
from attrloop.components.gold.register import LISTINGS, Entries, remembered_splits
from attrloop.components.predict.stream import check
from attrloop.components.storage.opening import open_store
from tests.components.gold.shop import Shop
from tests.emulator import Gateway
from tests.stores import Pod


def rows(*listings: str, split: str = "train") -> pl.DataFrame:
    return pl.DataFrame({"listing": listings, "split": split, "photographs": [[1, 2**63]] * len(listings)}, LISTINGS)


def test_rows_come_back_in_order_with_the_number_of_their_entry(pod: Pod):
    writer = Entries(pod(), "listings", LISTINGS)
    assert writer.add(rows("b", "a")) and writer.add(rows("c"))
    found = Entries(pod(), "listings", LISTINGS).rows()
    assert found.select("listing", "entry").rows() == [("b", 1), ("a", 1), ("c", 2)]
    assert found["photographs"].to_list()[0] == [1, 2**63]


def test_who_has_not_read_what_another_has_added_adds_nothing(pod: Pod):
    first, second = (Entries(pod(), "listings", LISTINGS) for _ in range(2))
    assert first.add(rows("a"))
    assert not second.add(rows("b"))
    assert second.rows()["listing"].to_list() == ["a"] and second.add(rows("b"))
    assert first.rows()["listing"].to_list() == ["a", "b"]


def test_of_many_at_once_each_adds_its_rows_once(pod: Pod):
    def add(number: int) -> None:
        entries = Entries(pod(), "listings", LISTINGS)
        while not entries.add(rows(f"listing-{number}")):
            entries.rows()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(8)))
    found = Entries(pod(), "listings", LISTINGS).rows()
    assert sorted(found["listing"]) == [f"listing-{number}" for number in range(8)]
    assert sorted(found["entry"]) == list(range(1, 9))


def test_a_register_that_takes_no_file_is_refused_before_anything_is_predicted(
    faulty: Gateway, bucket: str, tmp_path: Path
) -> None:
    shop = Shop(tmp_path / "shop")
    shop.add("mug")
    ws = shop.run(tmp_path / "runs", data={"splits": f"{bucket}/splits"})
    check(ws)
    faulty.refuse = lambda method, path: 403 if faulty.is_upload(method, path) else None
    with pytest.raises(InputError, match=r"register of splits .*/splits: files cannot be created here"):
        check(ws)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    entries = Entries(open_store(tmp_path), "listings", LISTINGS)
    for name in "abc":
        entries.add(rows(name))
    return tmp_path / "listings"


def test_files_that_others_leave_in_the_folder_do_no_harm(folder):
    (folder / ".DS_Store").write_text("")
    assert Entries(open_store(folder.parent), "listings", LISTINGS).rows().height == 3


def test_a_file_that_is_gone_is_named(folder):
    (folder / "00000002.parquet").unlink()
    with pytest.raises(InputError, match=r"00000002.parquet: .*missing.*data.splits"):
        Entries(open_store(folder.parent), "listings", LISTINGS).rows()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"nothing of the kind"])
def test_a_damaged_file_is_named(folder, content):
    (folder / "00000003.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"00000003.parquet: .*damaged.*data.splits"):
        Entries(open_store(folder.parent), "listings", LISTINGS).rows()


def test_a_file_of_something_else_is_named(folder):
    pl.DataFrame({"id": [1]}).write_parquet(folder / "00000003.parquet")
    with pytest.raises(InputError, match=r"00000003.parquet: .*its columns are id"):
        Entries(open_store(folder.parent), "listings", LISTINGS).rows()


def test_the_split_that_was_remembered_last_holds():
    later = pl.concat([rows("a", split="test"), rows("a", split="train"), rows("b", split="validation")])
    assert remembered_splits(later) == {"a": "train", "b": "validation"}

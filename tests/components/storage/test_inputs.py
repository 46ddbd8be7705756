"""Catalogues in a bucket are read like those on the disk, and each content is fetched once."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml
from PIL import Image

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.readers import read_listings
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import load_schema
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.preflight.check import examine
from attrloop.components.run.config import DataConfig, LoopConfig, ModelConfig, RunConfig, load_config
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage import inputs
from attrloop.components.storage.buckets import SCHEMES, locate
from tests.emulator import Gateway, new_bucket, upload

SCHEMA = {"verticals": {"mug": {"attributes": {"colour": {"values": ["red", "green"]}}}}}
CONFIG = {
    "data": {"catalogue_schema": "schema.yaml", "listings": "in/listings.jsonl"},
    "model": {"base": "owner/model"},
}


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """The folder of a catalogue of 12 listings with a picture each, the last two with the same."""
    folder = tmp_path / "catalogue"
    (folder / "in" / "img").mkdir(parents=True)
    (folder / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    (folder / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    listings = [Listing(id=f"mug-{k}", vertical="mug", images=(f"img/{k}.png",)) for k in range(12)]
    for k in range(12):
        Image.new("RGB", (40, 30), (20 * min(k, 10), 7, 99)).save(folder / "in" / "img" / f"{k}.png")
    (folder / "in" / "listings.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in listings))
    pl.DataFrame([row.model_dump(include={"id", "vertical", "images"}) for row in listings]).write_parquet(
        folder / "in" / "listings.parquet"
    )
    return folder


@pytest.fixture
def uri(catalogue: Path, bucket: str) -> str:
    """The same in a bucket."""
    upload(catalogue, f"{bucket}/catalogues/one")
    return f"{bucket}/catalogues/one"


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what this process has seen of buckets."""
    return lambda: monkeypatch.setattr(inputs, "_seen", {})


def reader(uri: str, **limits: object) -> ImageReader:
    data = DataConfig.model_validate({"catalogue_schema": "", "listings": f"{uri}/in/listings.jsonl", **limits})
    return ImageReader(f"{uri}/in", data)


def test_a_catalogue_reads_the_same_from_a_bucket(catalogue: Path, uri: str, tmp_path: Path) -> None:
    there, here = (load_config(f"{place}/run.yaml") for place in (uri, catalogue))
    assert there.data.listings == f"{uri}/in/listings.jsonl" and there.model.base == "owner/model"
    schema = load_schema(there.data.catalogue_schema)
    listings = read_listings(there.data.listings, schema)
    assert schema == load_schema(here.data.catalogue_schema) and listings == read_listings(
        f"{uri}/in/listings.parquet", schema
    )
    assert listings == read_listings(here.data.listings, schema) and len(listings) == 12
    remote, local = (
        Workspace.create(str(tmp_path / name), config) for name, config in (("there", there), ("here", here))
    )
    assert remote.data_digest == local.data_digest
    for listing in listings:
        assert remote.images.data(listing.images[0]) == local.images.data(listing.images[0])


def test_faults_are_reported_with_uri_and_line(uri: str, bucket: str, catalogue: Path) -> None:
    (catalogue / "in" / "listings.jsonl").write_text('{"id": "a", "vertical": "boat", "images": ["x.png"]}\n')
    (catalogue / "in" / "latin.jsonl").write_bytes('{"title": "Café"}\n'.encode("latin-1"))
    (catalogue / "in" / "damaged.parquet").write_bytes((catalogue / "in" / "listings.parquet").read_bytes()[:-9])
    upload(catalogue, f"{bucket}/bad")
    for file, what in (("latin.jsonl:1", "not UTF-8 text"), ("damaged.parquet", "not a Parquet file that can be read")):
        with pytest.raises(InputError, match=f"{bucket}/bad/in/{file}: {what}"):
            read_listings(f"{bucket}/bad/in/{file.partition(':')[0]}", load_schema(f"{uri}/schema.yaml"))
    with pytest.raises(InputError, match=rf"{bucket}/bad/in/listings.jsonl:1 \(listing a\): unknown vertical 'boat'"):
        read_listings(f"{bucket}/bad/in/listings.jsonl", load_schema(f"{uri}/schema.yaml"))
    for read, what in ((load_config, "config"), (load_schema, "schema")):
        with pytest.raises(InputError, match=f"{uri}/none.yaml: no such {what} file"):
            read(f"{uri}/none.yaml")
    with pytest.raises(
        InputError, match=r"ftp://bucket/schema.yaml: 'ftp' is not a kind of storage. Give a local path"
    ):
        load_schema("ftp://bucket/schema.yaml")


def test_images_are_fetched_in_bulk_and_each_content_once(
    faulty: Gateway, uri: str, new_process: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTRLOOP_CACHE", str(tmp_path / "empty"))
    names = [f"img/{k}.png" for k in range(12)]
    images = reader(uri)
    faulty.seen.clear()
    images.fetch(names)
    assert len(faulty.downloads()) == 11, "two of the twelve are the same picture"
    faulty.seen.clear()
    for name in names:
        images.open(name)
    assert faulty.seen == [], "all were there"
    new_process()
    again = reader(uri)
    again.fetch(names)
    assert [again.digest(name) for name in names] == [images.digest(name) for name in names] and len(
        faulty.downloads()
    ) == 0


def test_what_is_forgotten_leaves_neither_disk_nor_memory_and_can_be_had_again(
    uri: str, new_process: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTRLOOP_CACHE", str(tmp_path / "empty"))
    new_process()
    reader(uri).open("img/0.png")
    new_process()
    images, names = reader(uri), [f"img/{k}.png" for k in range(12)]
    images.fetch([*names, "img/none.png"])
    images.forget([*names, "img/none.png"])
    assert not inputs._seen and len(list((tmp_path / "empty" / "inputs").iterdir())) == 1, (
        "what another process had brought stays"
    )
    images.fetch(names)
    assert images.open(names[3]).size == (40, 30) and len(list((tmp_path / "empty" / "inputs").iterdir())) == 11


def test_a_file_that_another_process_removes_is_fetched_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, gone = inputs.local, []

    def vanishing(path: str | Path) -> Path:
        found = whole(path)
        if not gone:
            found.unlink()
            gone.append(found)
        return found

    monkeypatch.setattr(inputs, "local", vanishing)
    assert reader(uri).open("img/0.png").size == (40, 30) and gone


def test_an_image_that_is_replaced_is_seen_by_the_next_process(
    uri: str, catalogue: Path, new_process: Callable[[], None]
) -> None:
    before = reader(uri).open("img/0.png").getpixel((0, 0))
    Image.new("RGB", (40, 30), (1, 2, 3)).save(catalogue / "in" / "img" / "0.png")
    upload(catalogue / "in" / "img", f"{uri}/in/img")
    new_process()
    assert before == (0, 7, 99) and reader(uri).open("img/0.png").getpixel((0, 0)) == (1, 2, 3)


def test_a_missing_and_a_huge_image_are_reported_and_not_fetched(faulty: Gateway, uri: str) -> None:
    images = reader(uri, max_image_bytes=10)
    faulty.seen.clear()
    images.fetch(["img/0.png", "img/none.png"])
    for name, what in (("img/0.png", "larger than 10 bytes"), ("img/none.png", "no such image file")):
        problem = images.check(name, "listing mug-0")
        assert problem is not None and problem.where == f"listing mug-0, image {uri}/in/{name}" and problem.what == what
    assert len(faulty.downloads()) == 0


def test_images_come_only_from_the_listings_bucket_and_allowed_ones(
    faulty: Gateway, uri: str, catalogue: Path, scheme: str
) -> None:
    other = new_bucket(scheme)
    upload(catalogue, other)
    foreign = f"{other}/in/img/0.png"
    images = reader(uri)
    faulty.seen.clear()
    images.fetch([foreign])
    assert faulty.seen == [], "a bucket that is not allowed is not even asked"
    with pytest.raises(InputError, match=f"{foreign}: this bucket is not allowed. Add it to data.allowed_hosts"):
        images.open(foreign)
    allowed = reader(uri, allowed_hosts=(locate(other).bucket,))
    allowed.fetch([foreign])
    assert (
        allowed.open(foreign).size == images.open("img/0.png").size == images.open("../in/img/0.png").size == (40, 30)
    )
    with pytest.raises(InputError, match="not allowed"):
        ImageReader(catalogue, DataConfig(catalogue_schema="", listings="")).open(foreign)


@pytest.mark.parametrize("reference", ["/etc/hostname", "../../../../../etc/hostname"])
def test_no_listing_in_a_bucket_reaches_a_local_file(uri: str, bucket: str, reference: str) -> None:
    with pytest.raises(InputError, match=f"{bucket}/etc/hostname: no such image file"):
        reader(uri).data(reference)


def test_a_bucket_that_refuses_is_not_taken_for_bad_listings(faulty: Gateway, uri: str) -> None:
    faulty.refuse = lambda method, path: 403
    for call in (
        lambda: reader(uri).fetch(["img/0.png"]),
        lambda: reader(uri).open("img/0.png"),
        lambda: load_schema(f"{uri}/schema.yaml"),
    ):
        with pytest.raises(AttrloopError, match="access is refused") as caught:
            call()
        assert not isinstance(caught.value, InputError), "which a listing would be skipped for"


def test_a_cache_that_cannot_be_written_is_explained(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTRLOOP_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"the cache cannot be written .* Set ATTRLOOP_CACHE to a folder that can"):
        load_schema(f"{uri}/schema.yaml")


def test_the_cache_drops_what_was_not_used_for_long(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache" / "inputs"
    folder.mkdir(parents=True)
    for name, days in (("old", 3), ("new", 0)):
        (folder / name).write_text(name)
        os.utime(folder / name, (time.time() - days * 86_400,) * 2)
    (folder / "renamed-since").symlink_to(
        "nowhere"
    )  # like a file that another process has renamed since the folder was listed
    monkeypatch.setenv("ATTRLOOP_CACHE", str(folder.parent))
    monkeypatch.setattr(inputs, "_ROOM", 2)
    load_schema(f"{uri}/schema.yaml")
    assert not (folder / "old").exists() and (folder / "new").exists(), "another process may be reading it"


def config(uri: str) -> RunConfig:
    data = DataConfig(catalogue_schema=f"{uri}/schema.yaml", listings=f"{uri}/in/listings.jsonl")
    return RunConfig(data=data, model=ModelConfig(base="none"), loop=LoopConfig(iterations=0))


def of_data(uri: str, workspace: str) -> str:
    """The problems of data and workspace."""
    return "\n".join(
        text for text in map(str, examine(config(uri), workspace).problems) if f"{locate(uri).scheme}://" in text
    )


def test_preflight_reads_a_bucket(uri: str, bucket: str) -> None:
    found = of_data(uri, f"{bucket}/runs/first")
    assert "no tracking server for the remote workspace" in found
    assert "\n" not in found, "and nothing else is wrong"


def test_preflight_reports_what_a_bucket_lacks(uri: str, bucket: str, catalogue: Path, scheme: str) -> None:
    nowhere = f"{scheme}://there-is-none/first"
    assert f"{bucket}/nothing/schema.yaml: no such schema file" in of_data(f"{bucket}/nothing", f"{bucket}/runs/first")
    assert f"{nowhere}: no such file or bucket" in of_data(uri, nowhere)
    for k in range(12):
        (catalogue / "in" / "img" / f"{k}.png").unlink()
    upload(catalogue, f"{bucket}/bare")
    assert f"image {bucket}/bare/in/img/3.png: no such image file" in of_data(f"{bucket}/bare", f"{bucket}/runs/first")


def test_preflight_reports_that_access_is_refused(faulty: Gateway, uri: str, bucket: str) -> None:
    faulty.refuse = lambda method, path: 403
    found = of_data(uri, f"{bucket}/runs/first")
    assert f"{uri}/schema.yaml: access is refused" in found and f"{bucket}/runs/first: access is refused" in found


@pytest.mark.parametrize(("load", "name"), [(load_config, "run.yaml"), (load_schema, "schema.yaml")])
def test_yaml_in_another_encoding_is_named(catalogue: Path, load: Callable[[Path], object], name: str) -> None:
    (catalogue / name).write_bytes(b"# caf\xe9\n" + (catalogue / name).read_bytes())
    with pytest.raises(InputError, match=rf"{name}: not UTF-8 text \(byte 5\)\. Save the file as UTF-8"):
        load(catalogue / name)

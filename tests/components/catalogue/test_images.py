"""Images are opened as browsers show them. An image that no model takes is a bad image."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.records import Listing
from attrloop.components.engines.chains import readable
from attrloop.components.errors import InputError
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import DataConfig, ModelConfig
from tests.tiny import ARCHITECTURES

_TURN = Image.Transpose
# How a camera stores a picture, by the EXIF orientation that says how to turn it back.
STORED = {
    2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_90, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_270,
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> ImageReader:
    return ImageReader(tmp_path, DataConfig(catalogue_schema="", listings=""))


@pytest.fixture
def scene() -> Image.Image:
    """A picture that looks different for every way to turn it."""
    scene = Image.new("RGB", (60, 40), "white")
    scene.paste("red", (0, 0, 20, 20))
    scene.paste("blue", (40, 0, 60, 10))
    return scene


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_photographs_are_seen_upright(
    images: ImageReader, scene: Image.Image, tmp_path: Path, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene.transpose(STORED[orientation]).save(tmp_path / f"a.{suffix}", exif=exif, quality=95, subsampling=0)
    seen = images.open(f"a.{suffix}")
    assert seen.size == scene.size and np.asarray(ImageChops.difference(seen, scene)).max() < (
        60 if suffix == "jpg" else 1
    )


def test_damaged_exif_makes_no_damaged_image(images: ImageReader, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.new("RGB", (60, 40), "red").save(
        tmp_path / "a.jpg", exif=exif.tobytes().replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02")
    )
    assert images.open("a.jpg").size == (40, 60)


@pytest.mark.parametrize("size", [(2000, 19), (8, 2000)])
def test_a_strip_is_a_bad_image(images: ImageReader, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "strip.png")
    with pytest.raises(
        InputError, match=rf"strip.png: {size[0]} x {size[1]} pixels are a strip; .* Crop it or leave it out"
    ):
        images.open("strip.png")


def test_a_listing_with_a_strip_is_skipped(
    images: ImageReader, base_of: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (2000, 8)).save(tmp_path / "strip.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    listings = [Listing(id=name, vertical="mug", images=(f"{name}.png",)) for name in ("strip", "whole")]
    with caplog.at_level(logging.WARNING):
        kept = readable(Vlm.load(ModelConfig(base=str(base_of("qwen2_5_vl"))), images), listings)
    assert kept == listings[1:] and "skipping listing strip" in caplog.text


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_longest_allowed_image_is_taken_at_every_resolution(
    images: ImageReader, base_of: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    Image.new("RGB", (2000, 20)).save(tmp_path / "long.png")
    for most in (448 * 448, 32 * 32):
        assert Vlm.load(ModelConfig(base=str(base_of(architecture)), max_pixels=most), images).image_tokens(
            ["long.png"]
        )

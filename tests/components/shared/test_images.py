"""What no model takes is told as any other bad image is."""

import logging
from collections.abc import Callable
from pathlib import Path

import attrloop.components.shared.torchvision_operators  # noqa: F401

import pytest
from PIL import Image

from attrloop.components.sample_chains.sample import readable
from attrloop.components.shared.config import DataConfig, ModelConfig
from attrloop.components.shared.errors import InputError
from attrloop.components.shared.images import ImageReader
from attrloop.components.shared.records import Listing
from attrloop.components.shared.vlm import Vlm
from tests.tiny import ARCHITECTURES


@pytest.fixture
def images(tmp_path: Path) -> ImageReader:
    return ImageReader(tmp_path, DataConfig(catalogue_schema="", listings=""))


@pytest.mark.parametrize("size", [(2000, 19), (8, 2000)])
def test_a_strip_is_a_bad_image(images: ImageReader, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "strip.png")
    with pytest.raises(InputError, match=rf"strip.png: {size[0]} x {size[1]} pixels are a strip, .* Crop it or leave it out"):
        images.open("strip.png")


def test_a_listing_with_a_strip_is_skipped(images: ImageReader, base_of: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (2000, 8)).save(tmp_path / "strip.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    listings = [Listing(id=name, vertical="mug", images=(f"{name}.png",)) for name in ("strip", "whole")]
    with caplog.at_level(logging.WARNING):
        kept = readable(Vlm.load(ModelConfig(base=str(base_of("qwen2_5_vl"))), images), listings)
    assert kept == listings[1:] and "skipping listing strip" in caplog.text


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_longest_image_that_is_none_is_taken_however_small_it_is_made(
    images: ImageReader, base_of: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    Image.new("RGB", (2000, 20)).save(tmp_path / "long.png")
    for most in (448 * 448, 32 * 32):
        assert Vlm.load(ModelConfig(base=str(base_of(architecture)), max_pixels=most), images).image_tokens(["long.png"])

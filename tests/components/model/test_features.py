"""The tower runs once per image, whoever asks, and the cache never answers for another model or image."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.engines.engine import Decoding
from attrloop.components.model.features import bounded
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import DataConfig, ModelConfig
from tests.tiny import ARCHITECTURES

QUESTION = "What is the pattern?"


@pytest.fixture(params=list(ARCHITECTURES))
def base(request: pytest.FixtureRequest, base_of: Callable[[str], Path]) -> Path:
    return base_of(request.param)


def watched(base: Path, pictures: ImageReader, cache: Path | None, **settings: Any) -> tuple[Vlm, list[int]]:
    """A model, and a list to which every run of its tower is added."""
    vlm = Vlm.load(ModelConfig(base=str(base), **settings), pictures, cache)
    inner, runs = vlm.base.get_image_features, []

    def counted(*arguments: Any, **named: Any) -> Any:
        runs.append(1)
        return inner(*arguments, **named)

    vlm.base.get_image_features = counted
    return vlm, runs


@torch.no_grad()
def test_the_tower_runs_once_per_image(base: Path, pictures: ImageReader, tmp_path: Path) -> None:
    asked = [Prompt(QUESTION, ("1.png",)), Prompt("colour", ("1.png",)), Prompt(QUESTION, ("2.png",))]
    vlm, runs = watched(base, pictures, tmp_path / "cache.sqlite")
    fresh = vlm.encode(asked)
    assert 1 <= len(runs) <= 2, "images of one shape pass together"
    once = len(runs)
    first = vlm.base(**vlm.batch(vlm.encode(asked))).logits
    dict(vlm.generate(asked, Decoding(4, 2)))
    assert len(runs) == once
    other, more = watched(base, pictures, tmp_path / "cache.sqlite")
    kept = other.encode(asked)
    assert torch.equal(other.base(**other.batch(kept)).logits, first)
    assert not more, "another process finds them"
    for one, again in zip(fresh, kept, strict=True):
        assert one.ids.tolist() == again.ids.tolist() and torch.equal(one.images[0].features, again.images[0].features)


@torch.no_grad()
def test_images_encoded_together_are_encoded_as_alone(base: Path, pictures: ImageReader) -> None:
    names = [f"{k}.png" for k in range(4)]
    together = Vlm.load(ModelConfig(base=str(base)), pictures).image_tokens(names)
    assert list(together) == names
    for name in names:
        alone = Vlm.load(ModelConfig(base=str(base)), pictures).image_tokens([name])[name]
        torch.testing.assert_close(together[name].features, alone.features, atol=1e-5, rtol=1e-4)
        assert together[name].ids.tolist() == alone.ids.tolist()


def test_a_changed_image_or_setting_or_model_is_encoded_anew(
    base_of: Callable[[str], Path], pictures: ImageReader, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(pictures.base, folder)
    cache, limits = tmp_path / "cache.sqlite", DataConfig(catalogue_schema="", listings="")

    def towers(base: Path, **settings: Any) -> int:
        vlm, runs = watched(base, ImageReader(folder, limits), cache, **settings)
        vlm.encode([Prompt(QUESTION, ("1.png",))])
        return len(runs)

    base = base_of("qwen2_5_vl")
    assert [towers(base), towers(base)] == [1, 0]
    assert [towers(base, max_pixels=32 * 32), towers(base, max_pixels=32 * 32)] == [1, 0]
    shutil.copy(folder / "0.png", folder / "1.png")
    assert [towers(base), towers(base)] == [1, 0]
    shutil.copytree(base, tmp_path / "base")
    assert [towers(tmp_path / "base"), towers(tmp_path / "base")] == [1, 0]
    from safetensors.torch import load_file, save_file

    weights = tmp_path / "base" / "model.safetensors"
    save_file({name: value + 0.01 for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    assert towers(tmp_path / "base") == 1, "trained again into the same folder"


def test_what_a_killed_process_left_is_no_hindrance(
    base_of: Callable[[str], Path], pictures: ImageReader, tmp_path: Path
) -> None:
    vlm, _ = watched(base_of("qwen2_5_vl"), pictures, tmp_path / "cache.sqlite")
    writer = sqlite3.connect(tmp_path / "cache.sqlite")
    writer.execute("insert into features values ('half', x'00')")  # never committed
    writer.close()
    assert vlm.encode([Prompt(QUESTION, ("1.png",))])[0].images[0].features.numel()
    assert sqlite3.connect(tmp_path / "cache.sqlite").execute("select count(*) from features").fetchone() == (1,)


def _bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b'"features"') + 500] ^= 1  # in the image's own bytes, behind their header
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        _bit,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:5000]),
        lambda file: file.write_bytes(b"no database" * 1000),
    ],
)
def test_a_damaged_cache_is_computed_again(
    base_of: Callable[[str], Path], pictures: ImageReader, tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    file = tmp_path / "cache.sqlite"
    vlm, seen = watched(base_of("qwen2_5_vl"), pictures, file)
    before = vlm.encode([Prompt(QUESTION, ("1.png",))])[0].images[0].features
    vlm.cache._db.close()
    damage(file)
    again, seen = watched(base_of("qwen2_5_vl"), pictures, file)
    assert torch.equal(again.encode([Prompt(QUESTION, ("1.png",))])[0].images[0].features, before) and sum(seen) == 1
    third, seen = watched(base_of("qwen2_5_vl"), pictures, file)
    third.encode([Prompt(QUESTION, ("1.png",))])
    assert sum(seen) == 0


def test_pixels_are_bounded_and_proportions_stay() -> None:
    image = Image.fromarray(np.zeros((300, 600, 3), dtype=np.uint8))
    small = bounded(image, 20_000)
    assert small.size == (200, 100)
    assert bounded(small, 20_000) is small
    assert bounded(Image.new("RGB", (5_000, 1)), 100).size == (707, 1), "never less than a pixel"


def test_features_of_images_as_they_were_once_opened_are_not_served(
    base_of: Callable[[str], Path], pictures: ImageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    for version in (ImageReader.version, ImageReader.version - 1, ImageReader.version):
        monkeypatch.setattr(ImageReader, "version", version)
        vlm, runs = watched(base_of("qwen2_5_vl"), pictures, tmp_path / "cache.sqlite")
        vlm.image_tokens(["1.png"])
        looks.append(len(runs))
    assert looks == [1, 1, 0]

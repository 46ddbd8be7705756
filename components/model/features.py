"""The features that the frozen vision tower makes of an image: computed once, kept on disk, used by every step.

An image is encoded as the token ids that stand for it in a prompt, and the features that fill them. Both come from the
model's own processor and tower, so any architecture that takes `mm_encoder_outputs` works.
"""

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load, save
from transformers.modeling_outputs import BaseModelOutputWithPooling

log = logging.getLogger(__name__)
_TEXT_KEYS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True)
class ImageTokens:
    """An encoded image.

    Attributes:
        ids: token ids that replace the prompt's image placeholder, int64 [tokens].
        types: modality of each (`mm_token_type_ids`), int64 [tokens]; empty where the model has none.
        features: what the tower returned for it, float [rows, ..., width]: its first axis is joined over images.
        extras: further processor outputs that the language model needs, e.g. `image_grid_thw` [1, 3].
    """

    ids: torch.Tensor
    types: torch.Tensor
    features: torch.Tensor
    extras: dict[str, torch.Tensor]


class FeatureCache:
    """A file of encoded images by key; kills and several processes do no harm. Without a path it lives in memory.

    A damaged file is begun anew, and a damaged image in it is left out: both can be computed again.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _opened(path)
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        """Removes a damaged file. A file that is busy or may not be written is not damaged."""
        if self.path is None or isinstance(error, sqlite3.OperationalError):
            raise error
        log.warning("%s is damaged (%s): it is begun anew", self.path, error)
        self.path.unlink(missing_ok=True)
        self._db = _opened(self.path)

    def get(self, keys: Iterable[str]) -> dict[str, ImageTokens]:
        """The images that are there, by key."""
        found = {}
        for chunk in _chunks(keys, 500):
            for key, data in self._rows(chunk):
                tensors = load(data)
                extras = {
                    name.removeprefix("extra."): value for name, value in tensors.items() if name.startswith("extra.")
                }
                found[key] = ImageTokens(tensors["ids"], tensors["types"], tensors["features"], extras)
        return found

    def _rows(self, keys: list[str]) -> Iterator[tuple[str, bytes]]:
        """The undamaged rows of some keys."""
        query = f"select key, data from features where key in ({','.join('?' * len(keys))})"
        try:
            for key, data in self._db.execute(query, keys):
                if data[:4] == _checksum(data[4:]):
                    yield key, data[4:]
                else:
                    log.warning("%s: an encoded image is damaged: it is computed again", self.path)
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)

    def put(self, items: dict[str, ImageTokens]) -> None:
        """Adds images by key, all or none of them."""
        with self._db:
            for key, item in items.items():
                tensors = {"ids": item.ids, "types": item.types, "features": item.features} | {
                    f"extra.{n}": v for n, v in item.extras.items()
                }
                data = save({n: v.contiguous().cpu() for n, v in tensors.items()})
                self._db.execute("insert or replace into features values (?, ?)", (key, _checksum(data) + data))


def _opened(path: Path | None) -> sqlite3.Connection:
    db = sqlite3.connect(path or ":memory:", timeout=60)
    db.execute("create table if not exists features (key text primary key, data blob)")
    return db


def _checksum(data: bytes) -> bytes:
    """Stands before the data of a row, which SQLite itself does not check."""
    return zlib.crc32(data).to_bytes(4, "big")


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def bounded(image: Image.Image, max_pixels: int) -> Image.Image:
    """The image, scaled down to at most `max_pixels` pixels if it has more; its proportions stay."""
    scale = (max_pixels / (image.width * image.height)) ** 0.5
    if scale >= 1:
        return image
    width, height = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    return image.resize((width, height), Image.Resampling.BICUBIC)


@torch.no_grad()
def encode_images(model: Any, processor: Any, images: list[Image.Image]) -> list[ImageTokens]:
    """Runs processor and tower. Images whose processed tensors have the same shapes pass the tower together."""
    placeholder = image_placeholder(processor)
    inputs = [
        processor(text=[placeholder], images=[[image]], return_tensors="pt", add_special_tokens=False)
        for image in images
    ]
    groups: dict[Any, list[int]] = {}
    for k, item in enumerate(inputs):
        groups.setdefault(
            tuple(sorted((n, tuple(v.shape)) for n, v in item.items() if n not in _TEXT_KEYS)), []
        ).append(k)
    result: dict[int, ImageTokens] = {}
    for members in groups.values():
        pixels = {
            n: torch.cat([inputs[k][n] for k in members]).to(model.device)
            for n in inputs[members[0]]
            if n not in _TEXT_KEYS
        }
        pixels = {n: v.to(model.dtype) if v.is_floating_point() else v for n, v in pixels.items()}
        outputs = model.get_image_features(**pixels, return_dict=True).pooler_output
        parts = (
            outputs
            if isinstance(outputs, list | tuple) and len(outputs) == len(members)
            else _joined(outputs).chunk(len(members))
        )
        for k, features in zip(members, parts, strict=True):
            extras = {
                n: v for n, v in inputs[k].items() if n not in _TEXT_KEYS and not v.is_floating_point() and v.dim() == 2
            }
            types = inputs[k].get("mm_token_type_ids", torch.zeros(1, 0, dtype=torch.long))[0]
            result[k] = ImageTokens(inputs[k]["input_ids"][0], types, features.cpu(), extras)
    return [result[k] for k in range(len(images))]


def _joined(outputs: Any) -> torch.Tensor:
    return torch.cat(list(outputs)) if isinstance(outputs, list | tuple) else outputs


def image_placeholder(processor: Any) -> str:
    """The token that the chat template writes where an image goes."""
    return getattr(processor, "boi_token", None) or processor.image_token


def noisy(inputs: dict[str, Any], noise: float) -> dict[str, Any]:
    """A batch with Gaussian noise on its image features, in standard deviations of each image's features.

    Draws from torch's own generator. So add it where a step is computed: there a trainer that resumes restores the
    generator, while batches are made ahead.
    """
    if not noise or "mm_encoder_outputs" not in inputs:
        return inputs
    features = inputs["mm_encoder_outputs"]["image"].pooler_output
    blurred = [feature + noise * feature.std() * torch.randn_like(feature) for feature in features]
    return inputs | {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=blurred)}}  # type: ignore[arg-type]

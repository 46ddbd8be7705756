"""Prompts as tensors: each image's own tokens in their place, and rows padded to a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.model.features import ImageTokens
from attrloop.components.model.tokens import Tokens


@dataclass(frozen=True)
class Encoded:
    """A prompt as token ids and modalities, both int64 [length], with its images."""

    ids: torch.Tensor
    types: torch.Tensor
    images: tuple[ImageTokens, ...]


def encode(tokens: Tokens, prompt: Prompt, images: tuple[ImageTokens, ...]) -> Encoded:
    """A prompt with each image's placeholder replaced by the image's own tokens.

    Raises:
        AttrloopError: the model's chat template has no place for the images.
    """
    pieces = tokens.filled(tokens.prompt(prompt.text, len(images)), [image.ids.tolist() for image in images])
    types = []
    for place, piece in enumerate(pieces):
        known = images[place // 2].types if place % 2 else ()
        types.append(torch.as_tensor(known) if len(known) else torch.zeros(len(piece), dtype=torch.long))
    ids = torch.cat([torch.tensor(piece, dtype=torch.long) for piece in pieces])
    return Encoded(ids, torch.cat(types), images)


def padded(rows: Sequence[Encoded], ends: Sequence[torch.Tensor], pad: int) -> dict[str, Any]:
    """A batch: prompts padded on the left, completions on the right.

    Args:
        rows: encoded prompts.
        ends: token ids of one completion per prompt; empty for prompts alone.
        pad: the id of the padding.

    Returns:
        `input_ids`, `attention_mask` [rows, length] and the images' small inputs, but not their features. With
        completions also `completion_mask` [rows, longest].
    """
    width, extra = max(len(row.ids) for row in rows), max((len(end) for end in ends), default=0)
    ids = torch.full((len(rows), width + extra), pad)
    mask = torch.zeros(len(rows), width + extra, dtype=torch.long)
    types = torch.zeros(len(rows), width + extra, dtype=torch.long)
    for k, row in enumerate(rows):
        ids[k, width - len(row.ids) : width] = row.ids
        types[k, width - len(row.ids) : width] = row.types
        mask[k, width - len(row.ids) : width] = 1
        if ends:
            ids[k, width : width + len(ends[k])] = ends[k]
            mask[k, width : width + len(ends[k])] = 1
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    images = [image for row in rows for image in row.images]
    if any(len(image.types) for image in images):
        inputs["mm_token_type_ids"] = types
    for name in images[0].extras if images else ():
        inputs[name] = torch.cat([image.extras[name] for image in images])
    if ends:
        inputs["completion_mask"] = mask[:, width:].bool()
    return inputs

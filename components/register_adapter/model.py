"""The registered model. MLflow stores this file beside the adapter, without a pickle, and runs it to load the model.

It predicts with the code that trained and evaluated the adapter, so attrloop must be installed where it is loaded.
`model_config` holds the fields of the run's `model` section, `schema`, `title`, `metadata`, `max_new_tokens`,
`batch_size`, and `allowed_folders` (where a request's images that are paths may lie).
`mlflow.pyfunc.load_model(uri, model_config={"base": ...})` overrides any of them, e.g. to load the base model from
another place.
"""

import base64
import binascii
import os
import threading
from collections.abc import Sequence
from math import exp
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import Prompt, answer_of, question, rationale_of
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import Schema
from attrloop.components.digests import digest
from attrloop.components.engines.engine import Decoding
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.run.config import DataConfig, ModelConfig

_COLUMNS = ["answer", "confidence", "rationale"]
_LONGEST_PATH = 1024


class RequestImages(ImageReader):
    """Opens the images of one request by row: `row 0` is the image of the first row.

    An image is a local path, or the encoded image in base64, bare or as a `data:` URL.

    Args:
        values: the images.
        folders: those that paths may lie in, besides the working directory.
    """

    def __init__(self, values: list[str], folders: Sequence[str]) -> None:
        super().__init__(".", DataConfig(catalogue_schema="", listings="", allowed_folders=tuple(folders)))
        self.values = {f"row {k}": value for k, value in enumerate(values)}

    def data(self, reference: str) -> bytes:
        """The encoded image of a row.

        Raises:
            InputError: it cannot be read, is not valid base64, or is too large.
        """
        value = self.values[reference]
        head, _, body = value.partition(",") if value.startswith("data:") else ("", "", value)
        # A path can happen to be valid base64, so files come first.
        if not head and len(value) < _LONGEST_PATH and os.path.isfile(value):
            return super().data(value)
        try:
            data = base64.b64decode("".join(body.split()), validate=True)
        except binascii.Error as error:
            if head or len(value) >= _LONGEST_PATH:
                raise fail(
                    reference, f"not valid base64 ({error})", "Give a path, or the whole image file in base64"
                ) from error
            return super().data(value)
        if len(data) > self.limits.max_image_bytes:
            raise fail(reference, f"larger than {self.limits.max_image_bytes:,} bytes", "Shrink the image")
        return data

    # Not cached: the next request has another row 0.
    def digest(self, reference: str) -> str:
        """Digest of the encoded image of a row."""
        return digest(self.data(reference))


class AttributeModel(PythonModel):
    """Answers one attribute of one product image for each row."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads base model, processor and adapter."""
        from pathlib import Path

        from attrloop.components.model.vlm import Vlm

        config = dict(context.model_config)
        self.schema, self.config, self.lock = Schema.model_validate(config["schema"]), config, threading.Lock()
        settings = ModelConfig.model_validate(
            {key: value for key, value in config.items() if key in ModelConfig.model_fields}
        )
        self.vlm = Vlm.load(settings, RequestImages([], ()))
        self.vlm.use(Path(context.artifacts["adapter"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predicts row by row.

        Args:
            context: what MLflow says of the loaded model.
            model_input: columns `image` (path or base64), `vertical`, `attribute`, and optionally `title`.
            params: there are none.

        Returns:
            In the order of the rows: `answer` (canonical; None when it is off the list), `confidence` (the answer's
            probability, in [0, 1]) and `rationale` (what the model says it saw).

        Raises:
            InputError: an unknown vertical or attribute, or an image that cannot be read.
        """
        from attrloop.components.model.features import FeatureCache

        rows = [self._asked(k, row) for k, row in enumerate(model_input.to_dict("records"))]
        prompts = [
            Prompt(
                question(listing, name, self.schema.attribute(listing.vertical, name), **self._shown()), listing.images
            )
            for listing, name in rows
        ]
        decoding = Decoding(self.config["max_new_tokens"], self.config["batch_size"])
        found: dict[int, list[Any]] = {}
        with self.lock:  # a server calls from several threads, and the model decodes one batch at a time
            self.vlm.images = RequestImages(
                [str(value) for value in model_input["image"]], self.config.get("allowed_folders", ["/"])
            )
            # Of this request only: a server's memory must not grow with the images it sees.
            self.vlm.cache = FeatureCache(None)
            for k, (made,) in self.vlm.generate(prompts, decoding):
                attribute = self.schema.attribute(rows[k][0].vertical, rows[k][1])
                found[k] = [
                    answer_of(made.text, attribute),
                    min(1.0, exp(made.answer_logprob)),
                    rationale_of(made.text),
                ]
        if len(found) != len(rows):
            raise AttrloopError(f"the model answered {len(found)} of {len(rows)} rows")
        return pd.DataFrame([found[k] for k in range(len(rows))], columns=_COLUMNS, index=model_input.index)

    def _shown(self) -> dict[str, bool]:
        return {"title": self.config["title"], "metadata": self.config["metadata"]}

    def _asked(self, k: int, row: dict[Any, Any]) -> tuple[Listing, str]:
        vertical, name, title = str(row["vertical"]), str(row["attribute"]), row.get("title")
        if vertical not in self.schema.verticals:
            raise fail(f"row {k}", f"unknown vertical {vertical!r}", f"Use one of: {', '.join(self.schema.verticals)}")
        attributes = self.schema.verticals[vertical].attributes
        if name not in attributes:
            raise fail(f"row {k}", f"{vertical} has no attribute {name!r}", f"Use one of: {', '.join(attributes)}")
        return Listing(
            id=f"row-{k}", vertical=vertical, images=(f"row {k}",), title=title if isinstance(title, str) else None
        ), name


set_model(AttributeModel())

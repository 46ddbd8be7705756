"""What an artifact is made from: everything that can change what is in it, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from attrloop.components.catalogue import prompts, schema
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.errors import fail
from attrloop.components.run import layout
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.workspace import Workspace

Source = Literal["catalogue", "photographs", "prompts", "values"]


def _photographs(ws: Workspace) -> str:
    """How photographs are decoded, and what preflight has seen of them: one that is replaced under its name counts."""
    seen = read_manifest(ws.store, layout.SPLITS)
    return f"version {ImageReader.version}, {seen.made_from.get('photographs', '') if seen else ''}"


_SOURCES: dict[Source, Callable[[Workspace], str]] = {
    "catalogue": lambda ws: ws.data_digest,  # schema, listings and given labels
    "photographs": _photographs,
    "prompts": lambda ws: f"version {prompts.VERSION}",  # what is asked, and how an answer is read
    "values": lambda ws: f"version {schema.VERSION}",  # which spellings are one value
}

ASKED: tuple[Source, ...] = ("catalogue", "photographs", "prompts", "values")
"""What a model's answers about listings depend on, besides the model."""

BASE_MODEL = ("model.base", "model.revision", "model.dtype", "model.max_pixels", "model.processor")
"""The settings of the base model. Those of LoRA decide the first training only."""

READABLE = ("data.allowed_hosts", "data.allowed_folders", "data.max_image_bytes", "data.max_image_pixels")
"""The settings that decide which photographs can be read: for steps that leave out listings without."""


def trained(adapter: str) -> dict[str, str]:
    """The training that made an adapter, as `upstream`.

    Args:
        adapter: its path in the workspace; "" for the base model, which needs none.
    """
    return {"adapter": layout.trained_by(adapter)} if adapter else {}


@dataclass(frozen=True)
class MadeFrom:
    """What an artifact is made from. If any of it changes, the artifact is begun anew.

    Attributes:
        version: of the step's own code, not of the whole project. A step raises it when it makes something else from
            the same inputs, so that what an earlier version made is not reused.
        upstream: folders of finished artifacts, by what they are to this one.
        optional: the same for artifacts that need not be there.
        config: sections (`mine`) and fields (`model.base`) of the config.
        reads: what else is read: the catalogue, its photographs, and how they are shown and answers are read.
        extra: anything else that decides, by name.
    """

    version: int
    upstream: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    reads: tuple[Source, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

    def digests(self, ws: Workspace) -> dict[str, str]:
        """A digest, or the version, of each input by name, as a manifest keeps it.

        Raises:
            InputError: an artifact that must be there is not finished; or a file of the catalogue is missing.
        """
        found = {"version": str(self.version), **self.extra}
        found |= {name: _SOURCES[name](ws) for name in self.reads}
        if self.config:
            found["config"] = ws.config.digest(*self.config)
        for name, path in {**self.upstream, **self.optional}.items():
            manifest = read_manifest(ws.store, path)
            if manifest is None and name in self.upstream:
                what = "not finished, and this step builds on it"
                raise fail(f"{ws.store.root}/{path}", what, "Run the step that makes it first")
            found[name] = manifest.digest if manifest else ""
        return found

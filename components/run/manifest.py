"""The record of a finished artifact."""

from pydantic import BaseModel, ConfigDict

from attrloop.components.storage.store import MANIFEST, Store


class Manifest(BaseModel):
    """The record of a finished artifact.

    Attributes:
        schema_version: of this record.
        kind: what the artifact is, e.g. `pairs`.
        counts: how many of what, e.g. `{"pairs": 812}`.
        files: files and folders of the artifact that others build on.
        digest: of the content of `files`.
        made_from: a digest of every input, by name.
    """

    model_config = ConfigDict(extra="forbid")
    schema_version: int = 1
    kind: str
    counts: dict[str, float]
    files: list[str]
    digest: str
    made_from: dict[str, str]


def read_manifest(store: Store, path: str) -> Manifest | None:
    """The manifest of a finished artifact; None when it is not finished."""
    name = f"{path}/{MANIFEST}"
    return Manifest.model_validate_json(store.read(name)) if store.exists(name) else None

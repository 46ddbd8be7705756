"""The files of a trained adapter that leave its run: safetensors, settings and notes, and nothing that unpickles."""

from pathlib import Path

from attrloop.components.digests import digest, file_digest
from attrloop.components.errors import fail

_SAFE = {".json", ".safetensors", ".md", ".txt"}


def adapter_files(folder: Path) -> list[Path]:
    """The files of a PEFT folder that are registered and copied.

    Raises:
        InputError: the folder holds no safetensors.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix in _SAFE)
    if not any(file.suffix == ".safetensors" for file in files):
        raise fail(str(folder), "no adapter in safetensors format", "Train the stage again")
    return files


def adapter_digest(folder: Path) -> str:
    """Digest of an adapter's files, which identifies the adapter in MLflow and in workspaces."""
    return digest([[file.name, file_digest(file)] for file in adapter_files(folder)])

"""The libraries that an adapter was trained with, noted beside it: whoever registers it may have none of them."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_FILE = "requirements.txt"
_LIBRARIES = ("attrloop", "mlflow", "torch", "torchvision", "transformers", "peft", "safetensors", "pillow")


def write_requirements(adapter: Path) -> None:
    """Notes what is installed here in an adapter's folder."""
    (adapter / _FILE).write_text("".join(f"{requirement}\n" for requirement in _installed()))


def read_requirements(adapter: Path) -> list[str]:
    """What an adapter's folder notes, as pip takes it; what is installed here where it notes nothing."""
    file = adapter / _FILE
    return file.read_text().split() if file.exists() else _installed()


def _installed() -> list[str]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found

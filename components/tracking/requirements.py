"""The libraries that an adapter was trained with, written beside it: the step that registers it may lack them."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_FILE = "requirements.txt"
_LIBRARIES = ("attrloop", "mlflow", "torch", "torchvision", "transformers", "peft", "safetensors", "pillow")


def write_requirements(adapter: Path) -> None:
    """Writes the installed versions into an adapter's folder."""
    (adapter / _FILE).write_text("".join(f"{requirement}\n" for requirement in _installed()))


def read_requirements(adapter: Path) -> list[str]:
    """The requirements in an adapter's folder, as pip takes them; the installed versions where it has none."""
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

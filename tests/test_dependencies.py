"""pyproject.toml declares what the code imports, no more and no less, and the pins fit it."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"attrloop", "images", "manifests", "tests"}
# Distributions that share a package with others.
SHARED = {
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.cloud": "google-cloud-storage",
    "kfp.kubernetes": "kfp-kubernetes",
    "kfp": "kfp",
    "mlflow": "mlflow",
}
UNDECLARED = {"vllm", "mypy-boto3-s3"}  # the sampler image installs vLLM; boto3-stubs[s3] brings the types of S3
NOT_IMPORTED = {"torchvision"}  # processors of transformers import torchvision


def declared(*extras: str) -> dict[str, Requirement]:
    """The dependencies, and those of extras, by name."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return {canonicalize_name(found.name): found for found in map(Requirement, lines)}


def modules(file: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imported(*folders: str) -> dict[str, str]:
    """Every distribution that the files of some folders import, with a file that does."""
    known, found = packages_distributions(), dict[str, str]()
    for file in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for module in modules(file):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top not in OWN:
                shared = next((SHARED[prefix] for prefix in SHARED if f"{module}.".startswith(f"{prefix}.")), "")
                name = canonicalize_name(shared or known.get(top, [top])[0])
                found.setdefault(name, str(file.relative_to(ROOT)))
    return found


def test_every_import_is_declared() -> None:
    product = imported("components", "pipelines")
    assert product.keys() - UNDECLARED | NOT_IMPORTED == declared("models", "s3", "review").keys(), product
    tools = imported("images", "manifests", "tests")
    assert tools.keys() - UNDECLARED <= declared("models", "s3", "review", "server", "dev").keys(), tools


@pytest.mark.parametrize("file", ["constraints.txt", "images/sampler/constraints.txt"])
def test_pins_are_within_the_declared_bounds(file: str) -> None:
    pins = dict(line.split("==") for line in (ROOT / file).read_text().splitlines() if "==" in line)
    wanted = declared("dev") | declared("models", "s3", "review", "server", "docs")
    outside = {
        name: version
        for name, version in pins.items()
        if name in wanted and not wanted[name].specifier.contains(version, prereleases=True)
    }
    assert outside == {}
    installed = declared("s3") if "sampler" in file else wanted
    assert installed.keys() - pins.keys() <= {"attrloop"}, "every package that is declared is pinned"

"""The wheel is complete: the demo runs in an environment that knows nothing of the repository."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("components", "pipelines")
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools would pick up what earlier builds left in the repository."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in (*PACKAGES, "src"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=NOT_SHIPPED)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, source)
    pip("wheel", "--no-build-isolation", "--wheel-dir", out, source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment: the wheel, and the dependencies that are installed here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    dependencies = sysconfig.get_path("purelib")  # an editable install in it is not seen: its own .pth file is not read
    Path(sysconfig.get_path("purelib", "venv", scheme), "dependencies.pth").write_text(f"{dependencies}\n")
    pip("--python", folder / "bin" / "python", "install", wheel)
    return folder / "bin"


def pip(*arguments: str | Path) -> None:
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", *arguments, *options], check=True)


def test_the_wheel_holds_what_the_packages_hold(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {file.relative_to(ROOT) for folder in PACKAGES for file in (ROOT / folder).rglob("*") if file.is_file()}
    kept = {str("attrloop" / file) for file in files if file.suffix != ".md" and "__pycache__" not in file.parts}
    assert held == kept | {"attrloop/__init__.py", "attrloop/py.typed"}


def test_the_demo_runs_without_the_repository(programs: Path, tmp_path: Path) -> None:
    def attrloop(*arguments: str) -> str:
        # No PYTHONPATH, and nothing of the repository in the working directory.
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            ["attrloop", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    where = subprocess.run(
        [programs / "python", "-c", "import attrloop; print(attrloop.__file__)"],
        cwd=tmp_path, env={}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout).is_relative_to(programs.parent)
    assert "demo" in attrloop("--help")
    attrloop("compile", "-o", "loop.yaml")
    assert (tmp_path / "loop.yaml").stat().st_size > 0
    smaller = [
        f"--set={setting}" for setting in ("sft.epochs=1", "evaluate.bootstrap=20", "evaluate.max_new_tokens=12")
    ]
    run = Path(attrloop("demo", "--iterations", "0", *smaller).splitlines()[-1])
    assert (tmp_path / run / "report.html").is_file() and (tmp_path / run / "summary.json").is_file()

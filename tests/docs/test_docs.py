"""The documentation: the site builds, every link leads somewhere, and the examples in it are right."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml

from attrloop.components.catalogue.readers import read_labels, read_listings
from attrloop.components.catalogue.schema import load_schema
from attrloop.components.run.config import RunConfig, load_config
from attrloop.pipelines.cli.main import app

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?https?:|<link[^>]*rel=\"?stylesheet[^>]*https?:")
APART = re.compile(r"    |!\[|\||#|<")  # lines that cannot be wrapped: code, pictures, tables, headings, HTML


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_every_setting_is_in_the_reference(site: Path) -> None:
    shown = text_of(site / "settings.html")
    for section, field in RunConfig.model_fields.items():
        names = getattr(field.annotation, "model_fields", {section: None})
        assert [name for name in (section, *names) if name not in shown] == []


def test_every_command_is_in_the_reference(site: Path) -> None:
    shown = text_of(site / "command-line.html")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) > 8
    assert [name for name in commands if f"attrloop {name}" not in shown] == []


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert [page.name for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("target", ["components/absent/README.md", "docs/absent.md#x", "images/absent.png"])
def test_a_link_to_a_missing_file_is_a_warning(caplog: pytest.LogCaptureFixture, target: str) -> None:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    assert spec and spec.loader
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert hooks.on_page_markdown("[there](CHANGELOG.md)", page) == "[there](changelog.md)" and not caplog.records
    hooks.on_page_markdown(f"[a picture]({target})", page)
    assert f"README.md links to {target}, which does not exist" in caplog.text


@pytest.mark.parametrize("guide", ["README.md", "docs/get-started.md"])
def test_the_files_of_a_first_run_are_valid(tmp_path: Path, guide: str) -> None:
    blocks = re.findall(r"(?ms)^```(yaml|json)\n(.*?)^```", (ROOT / guide).read_text(encoding="utf-8"))
    names = {"verticals": "schema.yaml", "name": "config.yaml", "id": "listings.jsonl", "listing": "labels.jsonl"}
    for _, block in blocks:
        (tmp_path / names[next(iter(yaml.safe_load(block)))]).write_text(block, encoding="utf-8")
    schema = load_schema(tmp_path / "schema.yaml")
    listings = read_listings(tmp_path / "listings.jsonl", schema)
    assert len(listings) == 1
    assert load_config(tmp_path / "config.yaml").data.listings == str(tmp_path / "listings.jsonl")
    if guide != "README.md":
        assert read_labels(tmp_path / "labels.jsonl", schema, {one.id: one for one in listings})


def test_every_room_is_in_the_drawing() -> None:
    drawing = (ROOT / "docs/images/rooms.svg").read_text(encoding="utf-8")
    rooms = [
        file.parent.name for folder in ("components", "pipelines") for file in ROOT.glob(f"{folder}/*/__init__.py")
    ]
    assert len(rooms) > 15 and [room for room in rooms if f">{room}<" not in drawing] == []


def too_long(text: str) -> list[str]:
    """The lines of prose beyond 100 columns that have a blank to break them at, outside code."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
    lines = [line for line in text.splitlines() if len(line) > 100 and not APART.match(line)]
    masked = {line: re.sub(r"`[^`]*`|^ *(-|\d+\.) ", lambda found: "_" * len(found[0]), line) for line in lines}
    return [line for line in lines if " " in masked[line][:101].lstrip()]


def test_prose_wraps_at_100_columns() -> None:
    names = subprocess.check_output(["git", "ls-files", "*.md"], cwd=ROOT, text=True).split()
    assert len(names) > 20
    assert {name: long for name in names if (long := too_long((ROOT / name).read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("word " * 20, 0),
        ("word " * 20 + "word", 1),
        ("- " + "[words](target.md) " * 6 + "word", 1),
        ("- `" + "code " * 20 + "code`", 0),
        ("| " + "cell " * 20 + " |", 0),
        ("    " + "code " * 20 + "code", 0),
        ("```\n" + "code " * 20 + "code\n```", 0),
        ("```\ncode\n```\n" + "word " * 20 + "word", 1),
    ],
)
def test_only_prose_counts_as_too_long(text: str, found: int) -> None:
    assert len(too_long(text.rstrip())) == found

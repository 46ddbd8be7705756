"""The command line, as its user calls it."""

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from attrloop.components.errors import InputError
from attrloop.pipelines.cli.doctor import PYTHONS
from attrloop.pipelines.cli.main import app

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "own-catalogue" / "config.yaml"
NO_IMAGES = {f"ATTRLOOP_{image}_IMAGE": "" for image in ("WORKER", "TRAINER", "SAMPLER")}
HEAVY = ("torch", "transformers", "trl", "peft", "mlflow")
# Calls the command line in this very process and then says which heavy modules it brought in.
PROBE = f"""
import sys
from attrloop.pipelines.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""


def call(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attrloop.pipelines.cli.main", *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["demo", "--help"], ["compile", "-o", "loop.yaml"], ["submit", "--help"]],
    ids=" ".join,
)
def test_help_and_compilation_import_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_help_answers_at_once(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        begun = time.monotonic()
        assert "doctor" in call("--help", folder=tmp_path).stdout
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 1


def test_compile_writes_the_file_it_names(tmp_path: Path) -> None:
    done = call("compile", "-o", "out/loop.yaml", "--max-iterations", "1", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "out/loop.yaml\n")
    assert (
        "comp-dpo:" in (tmp_path / "out/loop.yaml").read_text()
        and "comp-dpo-2:" not in (tmp_path / "out/loop.yaml").read_text()
    )


def test_a_pipeline_without_images_is_written_with_a_warning(tmp_path: Path) -> None:
    for images in ({}, {"ATTRLOOP_WORKER_IMAGE": "w"}, {"ATTRLOOP_WORKER_IMAGE": "w", "ATTRLOOP_TRAINER_IMAGE": "t"}):
        done = call("compile", "--max-iterations", "0", "-o", "loop.yaml", folder=tmp_path, **NO_IMAGES | images)
        assert (done.returncode, done.stdout) == (0, "loop.yaml\n")
        named = [
            name in done.stderr
            for name in ("loop.yaml: ", "ATTRLOOP_WORKER_IMAGE", "ATTRLOOP_TRAINER_IMAGE", "build/images.env")
        ]
        assert named == [len(images) < 2] * 4, done.stderr


WRITING = {
    "compile": ["compile", "--max-iterations", "0", "-o"],
    "review import": ["review", "import", "absent.json", str(EXAMPLE), "-o"],
    "review pull": ["review", "pull", str(EXAMPLE), "-o"],
    "review export": ["review", "export", ".", "-o"],
    "demo": ["demo", "--runs"],
    **{
        f"{command} {option}": [command, str(EXAMPLE), option]
        for command in ("run", "annotate", "continue", "predict")
        for option in ("--runs", "--workspace")
    },
}


@pytest.mark.parametrize("arguments", WRITING.values(), ids=list(WRITING))
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("s3://bucket/{name}", r"s3://bucket/{name}\S*: output is written on this machine, not to a URI"),
        ("https://{user}@host/{name}", r"https://host/{name}\S*: output is written on this machine"),
        ("file/new/{name}", "{folder}/file is not a folder"),
        ("new/{long}{name}", "a name is too long"),
    ],
    ids=["a bucket", "a web server", "below a file", "a long name"],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], output: str, said: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    name = {"compile": "o.yaml", "review": "o.jsonl"}.get(arguments[0], "o")
    given = output.format(name=name, user="ann:secret", long="x" * 300)
    with pytest.raises(InputError, match=said.format(name=name, folder=tmp_path)) as refused:
        app([*arguments, given], standalone_mode=False)
    assert "secret" not in str(refused.value) and [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["compile", "review import"])
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("output.txt", "output.txt: .* written as "),
        ("folder.SUFFIX", "is a folder"),
        ("/proc/none/o.SUFFIX", "written"),
    ],
)
def test_a_file_that_is_none_or_of_another_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, output: str, said: str
) -> None:
    suffix = "yaml" if command == "compile" else "jsonl"
    (tmp_path / f"folder.{suffix}").mkdir()
    (tmp_path / "absent.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        app([*WRITING[command], output.replace("SUFFIX", suffix)], standalone_mode=False)
    assert {file.name for file in tmp_path.iterdir()} == {f"folder.{suffix}", "absent.json"}


TWICE = ["submit", "--set", "seed=1", "--set", "seed=2"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["compile", "--max-iterations", "6"],
        ["run", "c.yaml", "--seed", "x"],
        ["unknown"],
        ["submit", "--set", "=1"],
        TWICE,
        ["run", "c.yaml", "--seed", "1", "--set", "seed=2"],
        ["predict", "c.yaml", "--set", "seed"],
        ["doctor", "--set", "seed=1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: list[str]) -> None:
    assert call(*arguments, folder=tmp_path).returncode == 2


def test_bad_input_exits_with_1_and_a_message_only(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "data: {catalogue_schema: s.yaml, listings: l.jsonl}\nmodel: {base: b}\nsft: {learning_rat: 1}\n"
    )
    for arguments, message in (
        (["run", "absent.yaml"], "absent.yaml: no such config file"),
        (["run", "run.yaml"], "run.yaml:3 (sft.learning_rat): unknown key"),
    ):
        done = call(*arguments, folder=tmp_path)
        assert done.returncode == 1 and done.stdout == ""
        assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "annotate", "continue", "predict", "doctor", "submit", "schedule", "demo"])
def test_every_command_that_takes_a_config_checks_its_settings(tmp_path: Path, command: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("data: {catalogue_schema: s.yaml, listings: l.jsonl}\nmodel: {base: b}\n")
    arguments = [command, *[str(config)] * (command != "demo"), *["--cron", "@daily"] * (command == "schedule")]
    settings = ["--set", "sample.temperatur=1", "--set", "loop.iterations=9"]
    with pytest.raises(InputError) as caught:
        app([*arguments, *settings], standalone_mode=False)
    said = str(caught.value)
    assert "--set sample.temperatur: unknown setting. Did you mean sample.temperature?" in said
    assert "--set loop.iterations: Input should be less than or equal to 5" in said
    assert list(tmp_path.iterdir()) == [config]


def test_a_report_is_only_written_for_a_run(tmp_path: Path) -> None:
    done = call("report", ".", folder=tmp_path)
    assert done.returncode == 1 and "not the folder of a run" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_asks_for_the_pythons_that_the_project_allows() -> None:
    required = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    assert tuple((3, minor) for minor in range(30) if required.contains(f"3.{minor}")) == PYTHONS


def test_doctor_names_keys_and_never_shows_them(tmp_path: Path) -> None:
    done = call("doctor", folder=tmp_path, OPENAI_API_KEY="sk-very-secret", COLUMNS="200", MLFLOW_TRACKING_URI="")
    assert done.returncode == 0
    assert "OPENAI_API_KEY is set" in done.stdout and "very-secret" not in done.stdout + done.stderr


@pytest.mark.slow
def test_doctor_finds_a_tracking_server_that_is_away(tmp_path: Path) -> None:
    done = call("doctor", folder=tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9", COLUMNS="200")
    assert done.returncode == 1 and "fault tracking" in done.stdout and "Start the server" in done.stdout

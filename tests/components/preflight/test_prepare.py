"""From a config file and overrides to the config of a run."""

from pathlib import Path

import pytest

from attrloop.components.errors import InputError
from attrloop.components.preflight.prepare import resolve, run_name

CONFIG = """
name: mugs
seed: 3
data: {catalogue_schema: schema.yaml, listings: listings.jsonl}
model: {base: some/model}
loop: {iterations: 2}
annotate: {model: teacher, base_url: "http://127.0.0.1:1/v1"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return path


def test_unset_overrides_leave_the_file_as_it_is(path: Path) -> None:
    config = resolve(path, loop_iterations=-1, loop_seed=-1, annotate_model="", annotate_max_cost=-1.0)
    assert config == resolve(path)
    assert (config.loop.iterations, config.seed, config.annotate.model) == (2, 3, "teacher")


def test_overrides_replace_also_by_zero(path: Path) -> None:
    config = resolve(
        path, loop_iterations=0, loop_seed=0, annotate_max_cost=0.0, annotate_model="other", sample_max_listings=7
    )
    assert (config.loop.iterations, config.seed, config.annotate.max_cost) == (0, 0, 0.0)
    assert (config.annotate.model, config.sample.max_listings) == ("other", 7)


def test_paths_start_where_they_are_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "elsewhere").mkdir()
    monkeypatch.chdir(path.parent / "elsewhere")
    config = resolve(path, data_schema="s.yaml")
    assert config.data.catalogue_schema == str(path.parent / "elsewhere" / "s.yaml"), "an override: the current folder"
    assert config.data.listings == str(path.parent / "listings.jsonl"), "the file's: its folder"


def test_the_record_of_a_run_is_a_config_again(path: Path) -> None:
    config = resolve(path, loop_seed=5)
    (path.parent / "config.json").write_text(config.model_dump_json(indent=1))
    assert resolve(path.parent / "config.json") == config


@pytest.mark.parametrize("overrides", [{"loop_iterations": 6}, {"sample_chains": 0}, {"sample_unknown": 1}])
def test_a_bad_override_is_named(path: Path, overrides: dict[str, int]) -> None:
    with pytest.raises(
        InputError, match=r"run.yaml with overrides:\d+ \((loop\.iterations|sample\.chains|sample\.unknown)\)"
    ):
        resolve(path, **overrides)


def test_a_run_is_named_by_what_decides_its_outcome(path: Path) -> None:
    name = run_name(resolve(path))
    assert name.startswith("mugs-") and name == run_name(resolve(path))
    assert name != run_name(resolve(path, loop_seed=4))
    path.write_text(CONFIG.replace("127.0.0.1:1", "127.0.0.1:2"))
    assert name == run_name(resolve(path)), "where the teacher listens decides nothing"

"""What a config file says in YAML is what the run does."""

from pathlib import Path

import pytest

from attrloop.components.errors import InputError
from attrloop.components.run.config import RunConfig, load_config
from attrloop.components.run.overrides import read_json, read_texts
from attrloop.components.run.workspace import Workspace

BASE = "data: {catalogue_schema: s.yaml, listings: l.jsonl%s}\nmodel: {base: some/model%s}\n"


def load(folder: Path, more: str = "", data: str = "", model: str = "", encoding: str = "utf-8") -> RunConfig:
    (folder / "run.yaml").write_text(BASE % (data, model) + more, encoding=encoding)
    return load_config(folder / "run.yaml")


def said(folder: Path, more: str) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, more)
    return "\n".join(map(str, caught.value.problems))


def test_numbers_are_numbers(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """seed: 010
sft: {learning_rate: 5e-5, epochs: 1e1, gradient_checkpointing: yes}
annotate: {max_calls: 1e3, max_cost: +5, timeout_s: 1000, concurrency: 0x10, price_in: .5}
prompt: {title: on, metadata: false}
""",
    )
    assert (found.seed, found.sft.learning_rate, found.sft.epochs) == (10, 5e-5, 10.0)
    assert (found.annotate.max_calls, found.annotate.max_cost, found.annotate.timeout_s) == (1000, 5.0, 1000.0)
    assert (found.annotate.concurrency, found.annotate.price_in) == (16, 0.5)
    assert (found.sft.gradient_checkpointing, found.prompt.title, found.prompt.metadata) == (True, True, False)


def test_texts_are_texts(tmp_path: Path) -> None:
    model = ", revision: 007, processor: {a: 1e3, b: '7', c: [true, x], d: null, 1: 010}"
    found = load(tmp_path, "name: 010\nannotate: {model: 1.10}\n", data=", allowed_hosts: [010, no]", model=model)
    assert (found.name, found.annotate.model, found.model.revision) == ("010", "1.10", "007")
    assert found.data.allowed_hosts == ("010", "no")
    assert found.model.processor == {"a": 1000.0, "b": "7", "c": [True, "x"], "d": None, "1": 10}
    processor = read_texts({"model.processor": "{a: 1e3, b: '7'}", "data.allowed_hosts": "[010]"})
    assert processor == {"model.processor": {"a": 1000.0, "b": "7"}, "data.allowed_hosts": ["010"]}


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("annotate: {timeout_s: 1:30}\n", "run.yaml:3 (annotate.timeout_s): Input should be a valid number"),
        ("seed: 0b11\n", "run.yaml:3 (seed): Input should be a valid integer"),
        ("seed:\n", "run.yaml:3 (seed): Input should be a valid integer"),
        (f"seed: {'9' * 5_000}\n", "run.yaml:3 (seed): "),
        (f"seed: {2**32}\n", "run.yaml:3 (seed): Input should be less than 4294967296"),
        ("annotate: {max_calls: 1e300}\n", "run.yaml:3 (annotate.max_calls): "),
        (f"annotate: {{max_calls: {2**60}}}\n", "run.yaml:3 (annotate.max_calls): larger than any number"),
        ("annotate: {max_cost: 1e999}\n", "run.yaml:3 (annotate.max_cost): Input should be a finite number"),
        ("annotate: {max_cost: .inf}\n", "run.yaml:3 (annotate.max_cost): Input should be a valid number"),
        ("annotate: {max_cost: true}\n", "run.yaml:3 (annotate.max_cost): true and false are no numbers"),
        ("sample: {chains: false}\n", "run.yaml:3 (sample.chains): true and false are no numbers"),
        ("annotate: {max_cost: 1_0}\n", "run.yaml:3 (annotate.max_cost): a text with _ is no number: write 1000"),
        ("annotate: {max_calls: '1_000'}\n", "run.yaml:3 (annotate.max_calls): a text with _ is no number"),
        ("annotate: {max_cost: nan}\n", "run.yaml:3 (annotate.max_cost): Input should be a finite number"),
        ("annotate:\n", "run.yaml:3 (annotate): not a mapping of keys to values"),
        (
            "annotate: {max_cost: 1}\nannotate: {model: m}\n",
            "run.yaml:4 (annotate): the key 'annotate' is given twice, on lines 3 and 4",
        ),
    ],
)
def test_what_is_no_number_or_is_there_twice_is_named(tmp_path: Path, more: str, fault: str) -> None:
    assert fault in said(tmp_path, more)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, encoding: str) -> None:
    if encoding == "utf-8-sig":
        assert load(tmp_path, "seed: 3\r\n", encoding=encoding).seed == 3
    else:
        with pytest.raises(InputError, match=r"run\.yaml: not UTF-8 text but UTF-16\. Save the file as UTF-8"):
            load(tmp_path, encoding=encoding)


def test_a_setting_that_is_there_twice_in_overrides_is_refused() -> None:
    with pytest.raises(InputError, match="overrides: the key 'seed' is given twice"):
        read_json('{"seed": 3, "loop.iterations": 1, "seed": 4}')
    with pytest.raises(InputError, match=r"--set model\.processor:1 \(size\): the key 'size' is given twice"):
        read_texts({"model.processor": "{size: 3, size: 4}"})


def test_a_workspace_whose_config_says_something_twice_is_refused(tmp_path: Path) -> None:
    config = load(tmp_path)
    Workspace.create(str(tmp_path / "run"), config)
    assert Workspace.open(str(tmp_path / "run")).config == config
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"seed": 0,', '"seed": 0,\n "seed": 1,'))
    with pytest.raises(InputError, match=r"config\.json:4: the key 'seed' is given twice, on lines 3 and 4"):
        Workspace.open(str(tmp_path / "run"))

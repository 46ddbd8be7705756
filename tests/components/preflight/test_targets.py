"""What the model is to write is compared with what it may write, before anything is trained."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attrloop.components.preflight.check import examine
from attrloop.components.preflight.data import read_catalogue
from attrloop.components.preflight.finding import Finding
from attrloop.components.preflight.targets import check_targets
from tests.components.preflight.conftest import Shop
from tests.tiny import tokenizer


@pytest.fixture
def written(shop: Shop, vlm: str, tmp_path: Path) -> Shop:
    """The shop with a base that has a tokenizer, and labels with rationales."""
    base = tmp_path / "base"
    shutil.copytree(vlm, base)
    tokenizer([]).save_pretrained(base)
    shop.set("model", base=str(base))
    row = {"attribute": "pattern", "value": "solid", "split": "train"}
    reasons = ("I see it.", "I see upright bars. " * 6, "I see upright bars. " * 9)
    shop.write("labels.jsonl", [row | {"listing": f"mug-{k}", "rationale": text} for k, text in enumerate(reasons)])
    return shop


def lengths(shop: Shop) -> Finding:
    config = shop.config()
    return check_targets(config, read_catalogue(config, str(shop.folder / "run"), 0)[0])


def test_targets_that_fit_are_no_problem_and_the_longest_is_told(written: Shop) -> None:
    finding = lengths(written.set("sample", max_new_tokens=200).set("evaluate", max_new_tokens=150))
    assert finding.state == "ok"
    assert finding.detail.endswith("tokens (sample.max_new_tokens = 200, evaluate.max_new_tokens = 150)")


def test_a_label_that_is_too_long_is_named_with_the_number_to_set(written: Shop) -> None:
    written.set("sample", max_new_tokens=200).set("evaluate", max_new_tokens=25)
    (problem,) = lengths(written).problems
    needed = int(problem.remedy.split("at least ")[1].split(",")[0])
    assert problem.where.endswith("labels.jsonl (listing mug-2, mug/pattern)")
    assert f"has {needed} tokens, more than evaluate.max_new_tokens = 25: it would be cut off (2 labels" in problem.what
    assert problem.remedy == f"Set evaluate.max_new_tokens to at least {needed}, or shorten the rationale"
    assert lengths(written.set("evaluate", max_new_tokens=needed)).state == "ok", "the end token is counted"
    (again,) = lengths(written.set("sample", max_new_tokens=needed - 1)).problems
    assert again.remedy.startswith(f"Set sample.max_new_tokens to at least {needed}")


def test_gold_of_the_test_split_is_not_trained_on(written: Shop) -> None:
    rows = [row | {"split": "test"} for row in written.rows("labels.jsonl")]
    written.write("labels.jsonl", rows)
    assert lengths(written.set("evaluate", max_new_tokens=25)).state == "ok"


def test_a_value_that_no_chain_can_give_is_named(written: Shop) -> None:
    schema = (written.folder / "schema.yaml").read_text()
    (written.folder / "schema.yaml").write_text(schema.replace("square", "a quite extraordinarily rectangular one"))
    written.set("sample", max_new_tokens=20).set("evaluate", max_new_tokens=20)
    (problem,) = (found for found in lengths(written).problems if ", value " in found.where)
    assert problem.where.endswith("schema.yaml (lamp/shape, value 'a quite extraordinarily rectangular one')")
    assert "sample.max_new_tokens = 20 and evaluate.max_new_tokens = 20: no chain could give it" in problem.what
    assert problem.remedy.startswith("Set sample.max_new_tokens and evaluate.max_new_tokens to at least ")


def test_the_name_of_a_control_token_has_as_many_tokens_as_it_has_when_it_is_trained_on(written: Shop) -> None:
    row = written.rows("labels.jsonl")[0] | {"rationale": "<|im_end|>" * 20}
    written.write("labels.jsonl", [row])
    assert lengths(written).state == "problem"


def test_a_base_without_a_tokenizer_file_is_a_note(shop: Shop) -> None:
    finding = lengths(shop)
    assert finding.state == "note" and "not checked" in finding.detail
    broken = lengths(shop.set("model", base="nobody/nothing"))
    assert broken.state == "note", "the check of the base model names it"


def test_it_is_one_of_the_checks_and_needs_no_torch(written: Shop) -> None:
    examined = examine(written.set("evaluate", max_new_tokens=25).config(), str(written.folder / "run"))
    assert any("mug-2, mug/pattern" in problem.where for problem in examined.problems)
    code = (
        "import sys; import attrloop.components.preflight.targets; print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""A step that finds its work done says so at once: it imports nothing heavy before there is something to compute."""

import subprocess
import sys

import pytest

STAGES = (
    "preflight.check",
    "annotate.annotate",
    "sft.train",
    "sample_chains.sample",
    "mine_pairs.mine",
    "dpo.train",
    "evaluate.stage",
    "evaluate_test.evaluate_all",
    "report.report",
    "promote.promote",
)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_imported_without_torch(stage: str) -> None:
    heavy = "{'torch', 'transformers', 'trl'}"
    code = f"import sys, attrloop.components.{stage}; sys.exit(sorted({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Where a file lies in a workspace is said once."""

import ast
from pathlib import Path

import pytest

from attrloop.components.run import layout

ROOT = Path(__file__).parents[3]
NAMES = {value for key, value in vars(layout).items() if key.isupper() and "." in value}
# Files of other folders than a workspace
OTHERS = {"components/preflight/model.py": "config.json", "pipelines/cli/reviews.py": "labels.jsonl"}
MODULES = [
    str(path.relative_to(ROOT))
    for folder in ("components", "pipelines/local", "pipelines/cli", "pipelines/submit")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "layout.py"
]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_spells_the_name_of_a_file_of_a_workspace(module):
    texts = {node.value for node in ast.walk(ast.parse((ROOT / module).read_text())) if isinstance(node, ast.Constant)}
    assert not (texts & NAMES) - {OTHERS.get(module)}

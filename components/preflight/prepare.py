"""From a config file and the few values set for one run to the workspace's checked config."""

from pathlib import Path
from typing import Any

from attrloop.components.digests import digest
from attrloop.components.run.config import RunConfig, load_config
from attrloop.components.run.reporting import reports
from attrloop.components.storage import inputs
from attrloop.components.validation import validate_yaml

Override = str | int | float
_NAMES = {"data_schema": ("data", "catalogue_schema"), "loop_seed": ("seed",)}
_PATHS = ("data_schema", "data_listings", "data_labels")


def resolve(config: str | Path, **overrides: Override) -> RunConfig:
    """The config of a run: a config file with overrides named `<section>_<field>`.

    Args:
        config: path or URI of a run config (YAML, or a workspace's `config.json`).
        overrides: values that replace the file's; "" and negative numbers leave the file's. `loop_seed` sets `seed`, `data_schema` sets
            `data.catalogue_schema`. Local paths start from the current folder.

    Raises:
        InputError: as `load_config`, and for an override that is out of range or unknown.
    """
    changes: dict[str, Any] = {}
    for name, value in overrides.items():
        if value == "" or (not isinstance(value, str) and value < 0):
            continue
        *sections, field = _NAMES.get(name) or tuple(name.split("_", 1))
        target = changes.setdefault(sections[0], {}) if sections else changes
        target[field] = inputs.absolute(value) if name in _PATHS and isinstance(value, str) else value
    loaded = load_config(config)
    if not changes:
        return loaded
    raw = loaded.model_dump(mode="json")
    for section, values in changes.items():
        raw[section] = {**raw[section], **values} if isinstance(values, dict) else values
    return validate_yaml(RunConfig, _yaml(raw), f"{config} with overrides")


def _yaml(raw: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(raw, allow_unicode=True, sort_keys=False)


def run_name(config: RunConfig) -> str:
    """What a run's workspace is called: the name and a digest of everything that decides the outcome.

    Where the teacher listens does not: the same model behind another address is the same run.
    """
    return f"{config.name}-{digest(config.model_dump(mode='json', exclude={'annotate': {'base_url'}}))[:8]}"


@reports("preflight")
def prepare(config: str, workspace: str, **overrides: Override) -> str:
    """Writes the resolved config into the workspace and runs every check.

    Returns:
        the workspace's URI.

    Raises:
        InputError: with all problems that were found.
    """
    from attrloop.components.preflight.check import check
    from attrloop.components.run.workspace import Workspace

    opened = Workspace.create(workspace, resolve(config, **overrides))
    check(opened.store.root)
    return opened.store.root

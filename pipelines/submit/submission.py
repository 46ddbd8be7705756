"""What is to be run: which pipeline in which version, with which arguments, on which data; and the key by which the same is known again."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attrloop.components.preflight.prepare import resolve, run_name
from attrloop.components.shared import inputs
from attrloop.components.shared.config import RunConfig, load_config
from attrloop.components.shared.errors import InputError, Problem
from attrloop.components.shared.storage import digest, open_store
from attrloop.components.shared.tracking import code_digest, slug
from attrloop.pipelines.submit.parameters import Compiled, check_complete, parse, read_compiled

_ELSEWHERE = {
    "data_schema": ("data", "catalogue_schema"),
    "data_listings": ("data", "listings"),
    "data_labels": ("data", "labels"),
    "model_base": ("model", "base"),
}
_LOOP = "attribute-loop"


@dataclass(frozen=True)
class Wanted:
    """What a person asks for.

    Attributes:
        config: path or gs:// URI of a run config, for pipelines that take one.
        pipeline: a compiled pipeline; None for the loop, compiled now.
        settings: values of the pipeline's parameters, as text.
        runs: URI of the folder that holds the runs' workspaces.
        revision: of the code, for naming the version; "" for the git commit.
        data: digest of the data; "" for one of the files that the config names.
        key: idempotency key; "" for one made of all the above.
    """

    config: str = ""
    pipeline: Path | None = None
    settings: dict[str, str] = field(default_factory=dict)
    runs: str = ""
    revision: str = ""
    data: str = ""
    key: str = ""


@dataclass(frozen=True)
class Submission:
    """What is sent.

    Attributes:
        file: the compiled pipeline.
        compiled: what it says of itself.
        version: its name as a version on the server: the revision and a digest of the file, so that a name never stands for two contents.
        revision: of the code.
        name: of the run without its key.
        key: the same for the same data, code, config and arguments.
        arguments: the pipeline's parameters.
        config: the run config, if any.
    """

    file: Path
    compiled: Compiled
    version: str
    revision: str
    name: str
    key: str
    arguments: dict[str, Any]
    config: RunConfig | None

    @property
    def run(self) -> str:
        """Display name of the run, by which it is found again."""
        return f"{self.name}-{self.key}"

    def deliver_config(self) -> None:
        """Puts the config where the run looks for it, unless the arguments name one that is there already."""
        if self.config and self.arguments.get("config") == self._place(self.arguments):
            open_store(self.arguments["workspace"]).write(self._file, self.config.model_dump_json(indent=1).encode())

    @property
    def _file(self) -> str:
        return f"submitted/{self.key}.json"

    def _place(self, arguments: dict[str, Any]) -> str:
        return f"{str(arguments['workspace']).rstrip('/')}/{self._file}"


def plan(wanted: Wanted, folder: Path, with_data: bool = True) -> Submission:
    """Compiles, checks and completes what is wanted; nothing is sent.

    Args:
        wanted: what is asked for.
        folder: gets the compiled pipeline.
        with_data: whether the key depends on the data; a schedule's does not, since its data are yet to come.

    Raises:
        InputError: a faulty config or pipeline, parameters that do not fit, data that the cluster could not read.
    """
    file = wanted.pipeline or _compile(wanted, folder / "pipeline.yaml")
    compiled = read_compiled(file)
    values = parse(wanted.settings, compiled)
    loaded = load_config(wanted.config) if wanted.config else None
    resolved = resolve(wanted.config, **_overrides(values)) if wanted.config else None
    if resolved and wanted.runs and "workspace" in compiled.inputs:
        values.setdefault("workspace", f"{inputs.absolute(wanted.runs).rstrip('/')}/{_folder(compiled, resolved, values)}")
    revision = wanted.revision or code_digest()
    version = f"{slug(revision)[:12]}-{compiled.digest[:8]}"
    data = (wanted.data or (resolved.data.content_digest() if resolved else "")) if with_data else ""
    key = slug(wanted.key) if wanted.key else digest(data, version, loaded.digest() if loaded else "", values)[:12]
    name = loaded.name if loaded else compiled.name
    submission = Submission(file, compiled, version, revision, name, key, values, loaded)
    if loaded and "config" in compiled.inputs and "workspace" in values:
        values.setdefault("config", submission._place(values))
    check_complete(values, compiled)
    if loaded and "://" in str(values.get("workspace", "")):
        _check_reachable(loaded, values)
    return submission


def _compile(wanted: Wanted, file: Path) -> Path:
    from attrloop.pipelines.cluster import Cluster
    from attrloop.pipelines.compile import MAX_ITERATIONS, compile_to

    iterations = load_config(wanted.config).loop.iterations if wanted.config else 0
    asked = wanted.settings.get("loop_iterations", "")
    compile_to(file, max_iterations=min(5, max(MAX_ITERATIONS, iterations, int(asked) if asked.isdigit() else 0)), cluster=Cluster())
    return file


def _folder(compiled: Compiled, config: RunConfig, values: dict[str, Any]) -> str:
    """Name of the workspace: the loop's as `attrloop run` has it, another pipeline's apart from it and by the adapter that it starts from."""
    if compiled.name == _LOOP:
        return run_name(config)
    return f"{config.name}-{compiled.name}-{digest(run_name(config), values.get('adapter', ''))[:8]}"


def _overrides(values: dict[str, Any]) -> dict[str, Any]:
    """Those values that replace one of the config's, by the rule that a parameter is called `<section>_<field>`."""

    def replaces(name: str) -> bool:
        section, _, key = name.partition("_")
        about = RunConfig.model_fields.get(section)
        return name in (*_ELSEWHERE, "loop_seed") or (about is not None and key in getattr(about.annotation, "model_fields", {}))

    return {name: value for name, value in values.items() if replaces(name)}


def _check_reachable(config: RunConfig, values: dict[str, Any]) -> None:
    """A relative path in a config means a file of this machine, which the cluster's steps do not see."""
    problems = []
    for name, (section, key) in _ELSEWHERE.items():
        path = getattr(getattr(config, section), key)
        if name not in values and path and "://" not in path and os.path.exists(path):
            remedy = f"Name what they can read (a gs:// URI; for a model a hub id or a folder of their image), there or by --set {name}"
            problems.append(Problem(f"{section}.{key}", f"{path} is on this machine, where the steps cannot read it", remedy))
    if problems:
        raise InputError(problems)

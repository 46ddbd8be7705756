"""What is to be run: which pipeline in which version, with which arguments, on which data; and the key by which the same is known again."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attrloop.components.base_images import PLACEHOLDER
from attrloop.components.digests import digest
from attrloop.components.errors import InputError, Problem
from attrloop.components.preflight.prepare import resolve, run_name
from attrloop.components.run.config import RunConfig, load_config
from attrloop.components.storage.buckets import locate, supported
from attrloop.components.storage.store import open_store
from attrloop.components.tracking.code import code_digest
from attrloop.components.tracking.names import slug
from attrloop.pipelines.definitions.cluster import Cluster, no_images
from attrloop.pipelines.submit.parameters import Compiled, missing, parse, read_compiled

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
        config: path or URI of a run config, for pipelines that take one.
        pipeline: a compiled pipeline; None for the loop, compiled now.
        settings: values of the pipeline's parameters, as text.
        runs: URI of the folder in a bucket that holds the runs' workspaces.
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
        InputError: a faulty config or pipeline, parameters that do not fit, a pipeline without images, and all that the cluster could not reach.
    """
    file = wanted.pipeline or _compile(wanted, folder / "pipeline.yaml")
    compiled = read_compiled(file)
    values = parse(wanted.settings, compiled)
    loaded = load_config(wanted.config) if wanted.config else None
    resolved = resolve(wanted.config, **_overrides(values)) if wanted.config else None
    if problems := list(_problems(wanted, compiled, values, loaded, resolved)):
        raise InputError(problems)
    if resolved and wanted.runs and "workspace" in compiled.inputs:
        values.setdefault("workspace", f"{wanted.runs.rstrip('/')}/{_folder(compiled, resolved, values)}")
    revision = wanted.revision or code_digest()
    version = f"{slug(revision)[:12]}-{compiled.digest[:8]}"
    data = (wanted.data or (resolved.data.content_digest() if resolved else "")) if with_data else ""
    key = slug(wanted.key) if wanted.key else digest(data, version, loaded.digest() if loaded else "", values)[:12]
    name = loaded.name if loaded else compiled.name
    submission = Submission(file, compiled, version, revision, name, key, values, loaded)
    if loaded and "config" in compiled.inputs and "workspace" in values:
        values.setdefault("config", submission._place(values))
    return submission


def _compile(wanted: Wanted, file: Path) -> Path:
    from attrloop.pipelines.definitions.compile import MAX_ITERATIONS, compile_to

    iterations = load_config(wanted.config).loop.iterations if wanted.config else 0
    asked = wanted.settings.get("loop_iterations", "")
    compile_to(
        file,
        max_iterations=min(5, max(MAX_ITERATIONS, iterations, int(asked) if asked.isdigit() else 0)),
        cluster=Cluster(),
    )
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
        return name in (*_ELSEWHERE, "loop_seed") or (
            about is not None and key in getattr(about.annotation, "model_fields", {})
        )

    return {name: value for name, value in values.items() if replaces(name)}


def _problems(
    wanted: Wanted, compiled: Compiled, values: dict[str, Any], loaded: RunConfig | None, resolved: RunConfig | None
) -> Iterator[Problem]:
    if PLACEHOLDER in compiled.images:
        yield no_images(str(wanted.pipeline or compiled.name))
    yield from _misplaced(wanted)
    known = ["config"] * bool(loaded) + ["workspace"] * bool(loaded and wanted.runs)
    config = "Give the config file"
    given = f"Give --runs {supported('BUCKET/runs')} (or ATTRLOOP_RUNS)"
    workspace = f"{config}, by which it is named" if wanted.runs else given
    yield from missing([*values, *known], compiled, {"config": config, "workspace": workspace})
    if loaded and resolved:
        yield from _out_of_reach(loaded, values)
        if "loop_iterations" in compiled.inputs and (iterations := resolved.loop.iterations) > compiled.room:
            remedy = f"Compile it with --max-iterations {iterations}, or --set loop_iterations={compiled.room}"
            yield Problem(
                str(wanted.pipeline),
                f"has room for {compiled.room} iterations, and the config wants {iterations}",
                remedy,
            )


def _misplaced(wanted: Wanted) -> Iterator[Problem]:
    """Every step runs in a pod of its own, and shares nothing with the others and with this machine but what lies in a bucket."""
    for option, place in {
        "--runs": wanted.runs,
        **{f"--set {name}": wanted.settings.get(name, "") for name in ("config", "workspace")},
    }.items():
        if place and not _in_bucket(place, folder=option != "--runs"):
            what, remedy = "the steps can only reach what lies in a bucket", f"Give {supported('BUCKET/FOLDER')}"
            yield Problem(f"{option} {place}", what, remedy)


def _in_bucket(place: str, folder: bool) -> bool:
    """Whether a place is in a bucket, and, where a folder is needed, is not the bucket itself."""
    with suppress(InputError):
        return bool(locate(place).key) or not folder
    return False


def _out_of_reach(config: RunConfig, values: dict[str, Any]) -> Iterator[Problem]:
    """A path in a config means a file of this machine, which the cluster's steps do not see; that of a model may be one of their image."""
    for name, (section, key) in _ELSEWHERE.items():
        where, path = (
            (f"--set {name}", values[name])
            if values.get(name)
            else (f"{section}.{key}", getattr(getattr(config, section), key))
        )
        if path and "://" not in path and (section == "data" or os.path.exists(path)):
            remedy = f"Name what they can read (the URI of something in a bucket; for a model a hub id or a folder of their image), there or by --set {name}"
            yield Problem(where, f"{path} is on this machine, where the steps cannot read it", remedy)

"""What to run: which version of which pipeline, with which arguments, on which data, and the key that identifies it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from attrloop.components.base_images import PLACEHOLDER
from attrloop.components.digests import digest
from attrloop.components.errors import InputError, Problem
from attrloop.components.run import layout, overrides
from attrloop.components.run.config import PATHS, DataConfig, ModelConfig, RunConfig, load_config
from attrloop.components.storage.buckets import locate, supported
from attrloop.components.storage.opening import open_store
from attrloop.components.tracking.code import code_digest
from attrloop.components.tracking.names import slug
from attrloop.pipelines.definitions.cluster import Cluster, no_images
from attrloop.pipelines.submit.parameters import LIMIT, Compiled, missing, parse, read_compiled

_LOOP = "attribute-loop"
_ITERATING = (_LOOP, "continue-loop")
_ANY = RunConfig(data=DataConfig(catalogue_schema="-", listings="-"), model=ModelConfig(base="-"))


@dataclass(frozen=True)
class Wanted:
    """What a user wants to submit.

    Attributes:
        config: path or bucket URI of a run config, for pipelines that take one.
        pipeline: a compiled pipeline; None for the loop, compiled now.
        settings: settings of the config (by dotted name) and parameters of the pipeline, as text.
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
        compiled: its contents, as far as a submission needs them.
        version: its name as a version on the server: the revision and a digest of the file, so that a name never
            stands for two contents.
        revision: of the code.
        name: of the run without its key.
        key: the same for the same data, code, config and arguments.
        arguments: the pipeline's parameters.
        config: the run config, if any, without overrides.
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
        if self.config and self.arguments.get("config") == _config_place(self.arguments, self.key):
            store = open_store(self.arguments["workspace"])
            store.write(layout.submitted(self.key), self.config.model_dump_json(indent=1).encode())


def _config_place(arguments: dict[str, Any], key: str) -> str:
    return f"{str(arguments['workspace']).rstrip('/')}/{layout.submitted(key)}"


def plan(wanted: Wanted, folder: Path, with_data: bool = True) -> Submission:
    """Compiles, checks and completes what is wanted; nothing is sent.

    Args:
        wanted: what is asked for.
        folder: gets the compiled pipeline.
        with_data: whether the key depends on the data; a schedule's does not, because its data come later.

    Raises:
        InputError: a faulty config or pipeline, settings or parameters that do not fit, a pipeline without images, and
            everything that the cluster could not reach.
    """
    file, compiled, loaded, resolved, values = _check(wanted, folder)
    if loaded and wanted.runs and "workspace" in compiled.inputs:
        values.setdefault("workspace", f"{wanted.runs.rstrip('/')}/{_folder(compiled, resolved, values)}")
    revision = wanted.revision or code_digest()
    version = f"{slug(revision)[:12]}-{compiled.digest[:8]}"
    if not (key := wanted.key and slug(wanted.key)):
        data = (wanted.data or (resolved.data.content_digest() if loaded else "")) if with_data else ""
        key = digest(data, version, loaded.digest() if loaded else "", values)[:12]
    if loaded and "config" in compiled.inputs and "workspace" in values:
        values.setdefault("config", _config_place(values, key))
    name = resolved.name if loaded else compiled.name
    return Submission(file, compiled, version, revision, name, key, values, loaded)


class _Checked(NamedTuple):
    """The parts of a submission, checked.

    Attributes:
        file: the compiled pipeline.
        compiled: its contents, as far as a submission needs them.
        loaded: the config without overrides.
        resolved: the config with overrides; any config when none is given.
        values: the arguments that are given.
    """

    file: Path
    compiled: Compiled
    loaded: RunConfig | None
    resolved: RunConfig
    values: dict[str, Any]


def _check(wanted: Wanted, folder: Path) -> _Checked:
    problems: list[Problem] = []
    texts, changes = dict(wanted.settings), dict[str, Any]()
    settings = {name: texts.pop(name) for name in wanted.settings if overrides.is_setting(name)}
    loaded = load_config(wanted.config) if wanted.config else None
    resolved = loaded or _ANY
    with _gathered(problems):
        changes = overrides.read_json(texts.pop("overrides", "")) | overrides.read_texts(settings)
        resolved = overrides.override(resolved, changes)
    file = wanted.pipeline or _compile(resolved.loop.iterations, folder / "pipeline.yaml")
    compiled = read_compiled(file)
    values: dict[str, Any] = {}
    with _gathered(problems):
        values = parse(texts, compiled)
    problems += _unfit(wanted, compiled, changes)
    problems += _absent(wanted, compiled, [*wanted.settings])
    problems += _misplaced(wanted)
    if loaded:
        problems += _out_of_reach(resolved, changes)
        problems += _cramped(wanted, compiled, resolved.loop.iterations)
    if problems:
        raise InputError(problems)
    if changes:
        values["overrides"] = overrides.write_json(changes)
    return _Checked(file, compiled, loaded, resolved, values)


@contextmanager
def _gathered(problems: list[Problem]) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        problems += error.problems


def _compile(iterations: int, file: Path) -> Path:
    from attrloop.pipelines.definitions.compile import MAX_ITERATIONS, compile_to

    compile_to(file, max_iterations=max(MAX_ITERATIONS, iterations), cluster=Cluster())
    return file


def _folder(compiled: Compiled, config: RunConfig, values: dict[str, Any]) -> str:
    """The workspace's name, as `attrloop run` names the loop's; for other pipelines it also depends on the adapter."""
    if compiled.name == _LOOP:
        return config.run_name
    return f"{config.name}-{compiled.name}-{digest(config.run_name, values.get('adapter', ''))[:8]}"


def _unfit(wanted: Wanted, compiled: Compiled, changes: dict[str, Any]) -> Iterator[Problem]:
    """A pipeline without images, or one that cannot take the settings."""
    if PLACEHOLDER in compiled.images:
        yield no_images(str(wanted.pipeline or compiled.name))
    if changes and "overrides" not in compiled.inputs:
        what = f"{compiled.name} has no parameter 'overrides', through which it would take settings"
        yield Problem(f"--set {next(iter(changes))}", what, "Set it in the config file, or compile the pipeline again")
    if len(overrides.write_json(changes).encode()) > LIMIT:
        what = f"the settings are longer than the {LIMIT:,} bytes that a server accepts"
        yield Problem("--set", what, "Set them in the config file")


def _absent(wanted: Wanted, compiled: Compiled, given: list[str]) -> Iterator[Problem]:
    known = [*given, *["config"] * bool(wanted.config), *["workspace"] * bool(wanted.config and wanted.runs)]
    config = "Give the config file"
    where = f"Give --runs {supported('BUCKET/runs')} (or ATTRLOOP_RUNS)"
    workspace = f"{config}, which names it" if wanted.runs else where
    return missing(known, compiled, {"config": config, "workspace": workspace})


def _cramped(wanted: Wanted, compiled: Compiled, iterations: int) -> Iterator[Problem]:
    if compiled.name in _ITERATING and iterations > compiled.room:
        yield Problem(
            str(wanted.pipeline),
            f"has room for {compiled.room} iterations, and the config wants {iterations}",
            f"Compile it with --max-iterations {iterations}, or --set loop.iterations={compiled.room}",
        )


def _misplaced(wanted: Wanted) -> Iterator[Problem]:
    """Every step runs in a pod of its own: what steps share must lie in a bucket."""
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


def _out_of_reach(config: RunConfig, changes: dict[str, Any]) -> Iterator[Problem]:
    """Files of this machine, which the cluster's steps cannot read; a model's folder may be one of their image."""
    for name in (*PATHS, "model.base"):
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        for path in [value] if isinstance(value, str) else value:
            if path and "://" not in path and (name != "model.base" or os.path.exists(path)):
                yield Problem(
                    f"--set {name}" if name in changes else name,
                    f"{path} is on this machine, where the steps cannot read it",
                    "Name what they can read (a bucket URI; for a model a hub id or a folder of their image), there or "
                    f"by --set {name}=...",
                )

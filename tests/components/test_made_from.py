"""Every step, and everything that it is made from: what changes it, what does not, and what happens when it is missing.

No step works here. Each begins its artifact, and an artifact is finished with one line of text; that of the labels and
that of the splits with those of a few listings, too.
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast, get_args, get_origin

import polars as pl
import pytest
from pydantic import BaseModel

from attrloop.components.annotate import plan, request
from attrloop.components.catalogue import prompts, schema
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.dpo import train as dpo
from attrloop.components.errors import InputError
from attrloop.components.evaluate import evaluate
from attrloop.components.fetch_adapter import fetch
from attrloop.components.gold import left_out, splits
from attrloop.components.mine_pairs import mine
from attrloop.components.predict import predict, queue, stream
from attrloop.components.preflight import check
from attrloop.components.promote import challenge, promote
from attrloop.components.register_adapter import register
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, MineConfig, ModelConfig, RunConfig
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from attrloop.components.sample_chains import sample
from attrloop.components.sft import train as sft

STAGE, ORIGIN = "iteration-1", "models:/mugs/1"
STATE = LoopState(
    outcomes=(
        Outcome(stage="base", adapter="", macro=0.1),
        Outcome(stage="sft", adapter="sft/adapter", macro=0.2),
        Outcome(stage=STAGE, adapter=f"{STAGE}/dpo/adapter", macro=0.3),
    )
)
BASE = {"model.base", "model.revision", "model.dtype", "model.max_pixels", "model.processor"}
LIMITS = {"data.allowed_hosts", "data.allowed_folders", "data.max_image_bytes", "data.max_image_pixels"}
ASKED = {"catalogue", "photographs", "prompts", "values"}
LOOKED_AT = {"catalogue", "photographs", "values"}
LISTINGS = {"taught": "train", "sampled": "train", "choosing": "validation", "judging": "test", "reserved": "test"}
LABELLED = ("taught", "choosing", "judging")
SAMPLED = {"taught", "sampled", "choosing"}
VERSIONS: dict[str, tuple[Any, str]] = {
    "photographs": (ImageReader, "version"),
    "prompts": (prompts, "VERSION"),
    "values": (schema, "VERSION"),
    "request": (request, "VERSION"),
    "evaluation": (evaluate, "VERSION"),
}
ANNOTATE = {"provider", "model", "train_per_vertical", "validation_per_vertical", "test_per_vertical", "image_side"}
ANNOTATE |= {"max_images", "max_calls", "max_cost", "price_in", "price_out"}


@dataclass(frozen=True)
class Step:
    """A step: how it begins, the module whose VERSION is its own, and what it is made from.

    If it reads photographs, those `of` some listings, or all.
    """

    begin: Callable[[Workspace], Artifact]
    module: ModuleType
    upstream: set[str] = field(default_factory=set)
    config: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    of: set[str] = field(default_factory=set)


def _evaluation(ws: Workspace, split: str, stage: str, adapter: str) -> Artifact:
    return evaluate.begin(ws, split, stage, adapter)


def _champion(ws: Workspace) -> Artifact:
    return challenge.Challenge(ws, STATE, cast("Any", None), "").begin("7", "digest of its adapter")


EVALUATED = {f"evaluate/{split}/{stage}" for split in ("validation", "test") for stage in ("base", "sft", STAGE)}
VALIDATED = {path for path in EVALUATED if "/validation/" in path}
STEPS: dict[str, Step] = {  # in the order in which they run
    "splits": Step(lambda ws: splits.begin(ws, "photographs"), splits, set(), {"data.splits"}, {"catalogue", "values"}),
    "preflight": Step(lambda ws: Artifact.begin(ws, "preflight", check.made_from()), check, set(), {"data"}, LOOKED_AT),
    "annotate": Step(
        lambda ws: Artifact.begin(ws, "annotate", plan.made_from()),
        plan,
        {"splits"},
        config={*LIMITS, *(f"annotate.{name}" for name in ANNOTATE)},
        reads=LOOKED_AT | {"request"},
    ),
    "start": Step(
        lambda ws: Artifact.begin(ws, "start", fetch.made_from(asked="models:/mugs@champion", origin=ORIGIN)),
        fetch,
        reads={"catalogue"},
    ),
    "sft": Step(sft.begin, sft, {"annotate"}, {"model", "prompt", "sft"}, ASKED, of={"taught"}),
    "left-out": Step(
        left_out.begin,
        left_out,
        {"annotate", "splits"},
        reads={"catalogue", "photographs"},
        optional={"start"},
    ),
    f"{STAGE}/chains": Step(
        lambda ws: sample.begin(ws, STAGE, "sft/adapter"),
        sample,
        {"annotate", "splits", "sft"},
        BASE | LIMITS | {"prompt", "sample"},
        ASKED,
        of=SAMPLED,
    ),
    f"{STAGE}/pairs": Step(
        lambda ws: mine.begin(ws, STAGE),
        mine,
        {"annotate", f"{STAGE}/chains"},
        {"mine"},
        {"prompts", "values"},
        {"left-out"},
    ),
    f"{STAGE}/dpo": Step(
        lambda ws: dpo.begin(ws, STAGE, "sft/adapter"),
        dpo,
        {f"{STAGE}/pairs", "sft"},
        BASE | {"prompt", "dpo"},
        ASKED,
        of=SAMPLED,
    ),
    **{
        f"evaluate/{split}/{stage}": Step(
            partial(_evaluation, split=split, stage=stage, adapter=adapter),
            evaluate,
            {"annotate", "left-out"} | ({adapter.removesuffix("/adapter")} if adapter else set()),
            BASE | {"prompt", "evaluate"},
            ASKED,
            of={"judging" if split == "test" else "choosing"},
        )
        for split in ("validation", "test")
        for stage, adapter in (("base", ""), ("sft", "sft/adapter"), (STAGE, f"{STAGE}/dpo/adapter"))
    },
    "evaluate/test/champion-7": Step(
        _champion,
        challenge,
        {"annotate", "splits"},
        {"model.base", "evaluate"},
        ASKED | {"evaluation"},
        of={"judging"},
    ),
    "register": Step(
        lambda ws: register.begin(ws, STATE, "sqlite:///mlflow.db"),
        register,
        {f"{STAGE}/dpo", *VALIDATED},
        {name for name in RunConfig.model_fields if name != "seed"},
        {"catalogue"},
        EVALUATED - VALIDATED,
    ),
    "promote": Step(
        lambda ws: promote.begin(ws, STATE, "sqlite:///mlflow.db"),
        promote,
        {"register", "left-out", "evaluate/test/sft", f"evaluate/test/{STAGE}"},
        {"promote"},
        {"catalogue"},
    ),
    "catalogue": Step(stream.begin, stream, set(), {"data"}, LOOKED_AT),
    "predictions": Step(
        lambda ws: predict.begin(ws, "start/adapter"),
        predict,
        {"start"},
        BASE | LIMITS | {"prompt", "sample"},
        ASKED,
    ),
    "review": Step(lambda ws: queue.begin(ws, 20, ""), queue, {"predictions"}, {"review.drawn"}, LOOKED_AT),
}
WITHOUT_EFFECT = {"sft.checkpoint_steps", "dpo.checkpoint_steps", "evaluate.report_examples"}
WITHOUT_CONFIG = {"start", "review", "left-out"}  # nothing in them is drawn by seed


@dataclass(frozen=True)
class Run:
    """A run in which every step is finished."""

    folder: Path
    ws: Workspace

    def config(self, **changes: Any) -> Workspace:
        """The workspace under another config."""
        return Workspace(self.ws.store, self.ws.config.model_copy(update=changes))

    def anew(self, ws: Workspace | None = None) -> set[str]:
        """The steps that begin anew; each is asked before those that it is made from."""
        ws = ws or self.config()
        return {name for name in reversed(STEPS) if STEPS[name].begin(ws).manifest is None}

    def finish(self, name: str, text: str = "", replaced: Collection[str] = LISTINGS) -> None:
        """Finishes a step as before, or with another content; splits with other photographs of these listings."""
        others = {"other": text, "origin": ORIGIN, "photographs": text}
        artifact = Artifact(self.ws.store, name, others) if text else STEPS[name].begin(self.config())
        (artifact.folder / "content").write_text(text or name)
        files = ["content"]
        if name == "annotate":
            rows = [{"listing": key, "attribute": "lid", "value": "lid", "split": LISTINGS[key]} for key in LABELLED]
            files.append("labels.jsonl")
            (artifact.folder / files[-1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        if name == "splits":
            decided = [(key, split, text if key in replaced else "") for key, split in LISTINGS.items()]
            frame = pl.DataFrame(decided, schema=["listing", "split", "photograph"], orient="row")
            frame = frame.with_columns(rank=0.5, group="listing", mixed=pl.lit(None, pl.String), key="photograph")
            files += ["splits.parquet", "photographs.parquet"]
            for file in files[1:]:
                frame.write_parquet(artifact.folder / file)
        artifact.finish("test", {}, files)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    values = {"verticals": {"mug": {"attributes": {"lid": {"values": ["lid", "none"]}}}}}
    (tmp_path / "schema.yaml").write_text(schema.Schema.model_validate(values).model_dump_json())
    rows = [{"id": key, "vertical": "mug", "images": [f"{key}.jpg"]} for key in LISTINGS]
    (tmp_path / "listings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "labels.jsonl").write_text("")
    data = DataConfig(
        catalogue_schema=str(tmp_path / "schema.yaml"),
        listings=str(tmp_path / "listings.jsonl"),
        labels=str(tmp_path / "labels.jsonl"),
    )
    config = RunConfig(name="run", data=data, model=ModelConfig(base="tiny"))
    made = Run(tmp_path, Workspace.create(str(tmp_path / "run"), config))
    for name in STEPS:
        made.finish(name)
    return made


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, entry in model.model_fields.items():
        if isinstance(entry.annotation, type) and issubclass(entry.annotation, BaseModel):
            yield from ((name, key) for key in entry.annotation.model_fields)
        else:
            yield name, ""


def _other(annotation: Any, value: Any) -> Any:
    """Another value of the same type."""
    if get_origin(annotation) is Literal:
        return next(option for option in get_args(annotation) if option != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else {"more": 1} if isinstance(value, dict) else (*value, "more")


def _changed(run: Run, section: str, key: str) -> Workspace:
    before = getattr(run.ws.config, section)
    if not key:
        return run.config(**{section: _other(None, before)})
    entry = type(before).model_fields[key]
    return run.config(**{section: before.model_copy(update={key: _other(entry.annotation, getattr(before, key))})})


PATHS = {"data.catalogue_schema", "data.listings", "data.labels", "mine.truth"}


@pytest.mark.parametrize(("section", "key"), [entry for entry in _fields(RunConfig) if ".".join(entry) not in PATHS])
def test_a_setting_begins_anew_the_steps_that_it_decides_and_no_other(run: Run, section: str, key: str) -> None:
    name, ws = f"{section}.{key}".rstrip("."), _changed(run, section, key)
    decided = {
        step
        for step, entry in STEPS.items()
        if (name not in WITHOUT_EFFECT or step == "register")
        and (entry.config & {section, name} or (section == "seed" and step not in WITHOUT_CONFIG))
    }
    assert run.anew(ws) == decided


@pytest.mark.parametrize("path", STEPS)
def test_an_artifact_of_another_content_begins_anew_what_is_made_from_it(run: Run, path: str) -> None:
    run.finish(path, "another content")
    made = {step for step, entry in STEPS.items() if path in entry.upstream | entry.optional}
    made |= {step for step, entry in STEPS.items() if path == "splits" and "photographs" in entry.reads}
    assert run.anew() == made | {path}


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_photograph_that_is_replaced_or_seen_at_last_begins_anew_only_what_reads_it(run: Run, listing: str) -> None:
    run.finish("splits", "another content", [listing])
    made = {step for step, entry in STEPS.items() if "splits" in entry.upstream and not entry.of}
    readers = {step: entry.of or LISTINGS for step, entry in STEPS.items() if "photographs" in entry.reads}
    reading = {step for step, listings in readers.items() if listing in listings}
    assert run.anew() == made | reading | {"splits"}


@pytest.mark.parametrize("step", STEPS)
def test_an_artifact_that_is_missing_is_named_in_the_same_words_by_every_step(run: Run, step: str) -> None:
    for path in STEPS[step].upstream:
        run.ws.store.remove(path)
        with pytest.raises(InputError, match=rf"run/{path}: not finished\. Let the step"):
            STEPS[step].begin(run.config())
        run.finish(path)
    for path in STEPS[step].optional:
        run.ws.store.remove(path)
        assert STEPS[step].begin(run.config()).manifest is None
        run.finish(step)


@pytest.mark.parametrize("name", VERSIONS)
def test_a_version_begins_anew_what_depends_on_it(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, attribute = VERSIONS[name]
    monkeypatch.setattr(place, attribute, 99)
    own = {step for step, entry in STEPS.items() if entry.module is place}
    assert run.anew() == {step for step, entry in STEPS.items() if name in entry.reads} | own


@pytest.mark.parametrize("module", sorted({entry.module.__name__ for entry in STEPS.values()}))
def test_a_steps_own_version_begins_it_anew(run: Run, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {step for step, entry in STEPS.items() if entry.module.__name__ == module}
    monkeypatch.setattr(next(STEPS[step].module for step in own), "VERSION", 99)
    assert run.anew() - {"evaluate/test/champion-7"} == own - {"evaluate/test/champion-7"}


@pytest.mark.parametrize("file", ["schema.yaml", "listings.jsonl", "labels.jsonl"])
def test_other_data_begin_anew_what_reads_them(run: Run, file: str) -> None:
    path = run.folder / file
    path.write_text(path.read_text() + "\n")
    assert run.anew() == {step for step, entry in STEPS.items() if "catalogue" in entry.reads}


def test_true_labels_begin_mining_anew(run: Run) -> None:
    truth = run.folder / "truth.jsonl"
    truth.write_text("")
    ws = run.config(mine=MineConfig(arm="true_labels", truth=str(truth)))
    mine.begin(ws, STAGE).finish("pairs", {}, [])
    assert mine.begin(ws, STAGE).manifest is not None
    truth.write_text("\n")
    assert mine.begin(ws, STAGE).manifest is None


def test_another_adapter_number_or_address_begins_anew(run: Run) -> None:
    assert queue.begin(run.ws, 21, "").manifest is None
    assert queue.begin(run.ws, 21, "/photos").manifest is None
    assert promote.begin(run.ws, STATE, "http://elsewhere").manifest is None
    assert register.begin(run.ws, STATE.model_copy(update={"stop": True}), "sqlite:///mlflow.db").manifest is None
    assert fetch.made_from(asked="models:/mugs/1").digests(run.ws) != fetch.made_from(asked="").digests(run.ws)

"""The run config: one serialisable record of a run, from which every component takes its settings.

Each field is described by the string below it; the reference in the documentation is generated from these.
None of the defaults is the paper's: arXiv 2507.19679 does not publish its settings. They are reasoned from ScPO
(arXiv 2411.04109), Iterative RPO (arXiv 2404.19733) and our own measurements.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from attrloop.components.digests import digest, file_digest
from attrloop.components.documents import fault_of
from attrloop.components.errors import fail
from attrloop.components.secrets import reveals
from attrloop.components.storage import inputs
from attrloop.components.validation import validate_yaml
from attrloop.components.yaml_documents import Plain, typed

_LONGEST_EXPERIMENT, _LONGEST_MODEL = 500, 256  # characters of MLflow's names
Views = Literal["first", "all", "each"]
Fraction = Annotated[float, Field(ge=0, le=1)]

PATHS = ("data.catalogue_schema", "data.listings", "data.labels", "data.splits", "data.allowed_folders", "mine.truth")
"""The settings that are paths of files or folders."""

WITHOUT_EFFECT = frozenset(
    {
        "annotate.base_url",  # where the annotator is and how fast it is asked: its answers are the same
        "annotate.key_env",
        "annotate.concurrency",
        "annotate.timeout_s",
        "annotate.retries",
        "annotate.thinking_tokens",  # room in a reply, which never limits the answer itself
        "annotate.max_failed",  # a bound that stops a step: one that is finished was within it
        "sft.checkpoint_steps",  # only what a kill costs
        "dpo.checkpoint_steps",
        "evaluate.report_examples",  # only the report, which is always written anew
    }
)
"""The settings that change nothing in what a step has finished, so that it is reused when they change."""

# Where a secret that was found in a field belongs instead; every record of a run shows its config.
_INSTEAD = {
    "uri": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a database's MLFLOW_TRACKING_URI,",
    "base_url": "the variable that key_env names",
}


_LARGEST = 2**53  # of a whole number: libraries hold them in 64 bits, JSON in a float


def is_text(kind: Any) -> bool:
    """Whether a setting of this type is a text, or consists of texts: what is written for it stays as written."""
    inner = [part for part in get_args(kind) if part is not Ellipsis]
    return kind is str or get_origin(kind) is Literal or (bool(inner) and all(map(is_text, inner)))


def _refuse_python_numbers(value: Any) -> None:
    """Raises for what Python takes for a number and YAML does not."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    if isinstance(value, str) and "_" in value:
        raise ValueError("a text with _ is no number: write 1000, not 1_000")


class Config(BaseModel):
    """What every section has in common: no unknown key, no change after construction, no secret, no endless number."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_yaml_means_it(cls, value: Any, info: ValidationInfo) -> Any:
        if why := fault_of(value):
            raise ValueError(why)
        kind = cls.model_fields[info.field_name or ""].annotation
        is_section = isinstance(kind, type) and issubclass(kind, BaseModel) and not isinstance(value, Plain)
        found = value if is_section or is_text(kind) else typed(value)
        if kind in (int, float):
            _refuse_python_numbers(found)
        return found

    @field_validator("*")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError("larger than any number that can be stored")
        return value

    @field_validator("*")
    @classmethod
    def _no_credentials(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) and reveals(value):
            instead = (
                f": leave them out and set {_INSTEAD[info.field_name]} in the environment"
                if info.field_name in _INSTEAD
                else ""
            )
            raise ValueError(f"holds a user or password, which every record of the run would show{instead}")
        return value


class DataConfig(Config):
    """The catalogue: schema, listings, labels, and which images may be read. Paths start from the config's folder."""

    catalogue_schema: str
    """The schema (YAML): verticals, attributes and their closed lists. A path or a bucket URI, as all data."""
    listings: str
    """The listings, JSONL or Parquet. Relative image paths start from the listings' folder."""
    labels: str = ""
    """Labels that exist already (JSONL); empty for none."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts and buckets that images may come from, besides the listings' own bucket. Empty by default, because a
    listing must not make the machine call any host."""
    allowed_folders: tuple[str, ...] = ()
    """Local folders that images may lie in, besides the folder of the listings and all below it. Empty by default,
    because a listing must not show the model, the annotator or a report any file of the machine."""
    max_image_bytes: int = Field(20_000_000, gt=0)
    """Largest encoded image, in bytes; product photographs are far smaller."""
    max_image_pixels: int = Field(50_000_000, gt=0)
    """Largest decoded image, in pixels; guards against decompression bombs."""
    max_bad_images: Fraction = 0.02
    """Fraction of the images that may be unreadable. Their listings are skipped and counted; above this fraction the
    run stops."""
    check_images: int = Field(2_000, ge=0)
    """Images that preflight opens, drawn at random; 0 for none."""
    splits: str = ""
    """Folder of the register, where the splits of listings are remembered for all runs; empty for `splits` in the runs
    folder, because all runs that learn from a catalogue must keep the same listings as gold."""

    def content_digest(self) -> str:
        """Digest of schema, listings and given labels: of these files, not of the images that they name.

        Raises:
            InputError: one of the files is missing.
        """
        return digest(
            [file_digest(inputs.local(path)) for path in (self.catalogue_schema, self.listings, self.labels) if path]
        )


class ModelConfig(Config):
    """The base model and its LoRA adapter."""

    base: str
    """The base model: a hub id or a folder, of any vision-language model that AutoModelForImageTextToText loads."""
    revision: str = "main"
    """Revision of a hub model; pin a commit hash, because `main` can change."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights; `auto` is bfloat16 where the device supports it, else float32."""
    max_pixels: int = Field(448 * 448, gt=0)
    """Images are scaled down to this many pixels, which decides the number of visual tokens (256 in Qwen2.5-VL)."""
    processor: dict[str, Any] = Field(default_factory=dict)
    """More arguments for AutoProcessor.from_pretrained, such as `size` or `do_image_splitting`."""
    lora_rank: int = Field(16, gt=0)
    """Rank of the adapter; few labels need little capacity."""
    lora_alpha: int = Field(32, gt=0)
    """Scale of the adapter, usually twice the rank."""
    lora_dropout: Fraction = 0.0
    """Dropout in the adapter. DPO compares log-probabilities, which dropout makes noisy."""
    lora_targets: str = r".*(language_model|text_model).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    """Regular expression for the modules that get an adapter, matched against whole names; by default those of the
    language model only."""


class PromptConfig(Config):
    """What a prompt shows besides the images."""

    title: bool = False
    """Show the listing's title. Titles often contain the answer, and the method is about images."""
    metadata: bool = False
    """Show the listing's known metadata."""


class AnnotateConfig(Config):
    """Labelling by a large model behind an API, within a budget."""

    provider: str = "openai"
    """Who labels: a name in annotate/annotators.py; `openai` is any OpenAI-compatible endpoint."""
    base_url: str = "https://api.openai.com/v1"
    """Address of the annotator, with its scheme; it usually ends in /v1."""
    model: str = "gpt-4.1-mini"
    """Name of the annotator at that endpoint."""
    key_env: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")
    """Environment variable that holds the API key; never the key itself."""
    train_per_vertical: int = Field(10, ge=0)
    """Labels of each attribute of a vertical for training; the paper's order of magnitude. Your own labels count first,
    and of those that name no split no more are used than this. The annotator is asked for what is missing."""
    validation_per_vertical: int = Field(20, ge=0)
    """The same for validation, which decides early stop, best iteration and consensus gate. Some 15 % of a vertical's
    listings are of this split, so 20 labels need about 140 listings."""
    test_per_vertical: int = Field(20, ge=0)
    """The same for the test split, which is read once, at the end."""
    image_side: int = Field(768, gt=0)
    """Longest side, in pixels, of the JPEGs that are sent."""
    max_images: int = Field(4, gt=0)
    """Images of one listing that are sent at most."""
    thinking_tokens: int = Field(0, ge=0)
    """Tokens that the annotator may think before it replies; a reply has 200 more, 150 for each attribute, and 10 for
    each value of an attribute that takes several. Raise it (to 4,000, say) for a model that thinks. Each reply
    reserves them from the budget, because thinking is paid for."""
    concurrency: int = Field(8, gt=0)
    """Requests in flight at once."""
    timeout_s: float = Field(60.0, gt=0)
    """Longest time for one request from its start to the last byte of its reply, in seconds."""
    retries: int = Field(5, ge=0)
    """Retries of a request, with back-off; Retry-After is honoured."""
    max_calls: int = Field(2_000, ge=0)
    """Budget in requests; a request that would exceed it is not sent. With 0 nothing is asked: preflight and report
    name the labels that are missing."""
    max_cost: float = Field(20.0, ge=0)
    """Budget in US dollars; a request that would exceed it is not sent."""
    price_in: float = Field(0.40, ge=0)
    """Price of the annotator in US dollars per million prompt tokens."""
    price_out: float = Field(1.60, ge=0)
    """Price of the annotator in US dollars per million completion tokens."""
    max_failed: Fraction = 0.1
    """Fraction of the listings whose answers may be unusable; above it the run stops."""

    @field_validator("base_url")
    @classmethod
    def _whole(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
            raise ValueError("is no address of an endpoint: write it with https:// and without a query (? or #)")
        return value


class TrainConfig(Config):
    """What SFT and DPO have in common."""

    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    epochs: float = Field(gt=0)
    """Passes over the training data."""
    batch_size: int = Field(8, gt=0)
    """Rows in one step on one device."""
    accumulation: int = Field(1, gt=0)
    """Steps gathered into one update."""
    warmup: Fraction = 0.03
    """Fraction of the updates over which the learning rate rises."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    checkpoint_steps: int = Field(100, gt=0)
    """Updates between two checkpoints; a killed task continues from the last one."""
    gradient_checkpointing: bool = False
    """Trade time for memory: slower, but needs less; for when the device runs out of memory."""


class SftConfig(TrainConfig):
    """Supervised fine-tuning of the first adapter on the training labels."""

    learning_rate: float = Field(2e-4, gt=0)
    """Peak learning rate; the default is usual for LoRA."""
    epochs: float = Field(10.0, gt=0)
    """Passes over the training data; with about ten labels per vertical, many passes are needed and harmless."""
    views: Views = "first"
    """Images of a labelled listing that are trained on: the first, each in turn, or all in one prompt."""
    feature_noise: float = Field(0.0, ge=0)
    """Gaussian noise on image features, in units of their standard deviation; reduces overfitting to few labels."""


class SampleConfig(Config):
    """Sampling of reasoning chains for unlabelled listings; `predict` uses it too."""

    engine: Literal["transformers", "vllm"] = "transformers"
    """What decodes the chains. vllm needs the sampler image; its chains are as good, but not the same."""
    chains: int = Field(8, gt=0)
    """Chains per listing and attribute, over all views together; the k of ScPO."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling: probability mass that tokens are drawn from."""
    views: Views = "each"
    """What a chain sees. Agreement across photographs is evidence; agreement on one is mostly confidence."""
    max_new_tokens: int = Field(64, gt=0)
    """Longest chain, in tokens; a chain that is cut off does not vote."""
    batch_size: int = Field(16, gt=0)
    """Prompts decoded together, each with all its chains; vllm chooses by itself."""
    shard_size: int = Field(200, gt=0)
    """Listings in one Parquet shard; a finished shard is not sampled again."""
    max_listings: int = Field(0, ge=0)
    """Unlabelled listings used in an iteration, drawn at random; 0 for all."""


class MineConfig(Config):
    """From the chains' votes to preference pairs."""

    calibrate: bool = True
    """Weigh votes by how often such answers are right on labelled listings; without labels, votes are counted."""
    consensus: Fraction = 0.5
    """Least support of the winner: its fraction of the votes, or its calibrated probability (ScPO: 0.5 k)."""
    min_votes: int = Field(4, ge=2)
    """Least number of answers on the closed list."""
    gate_accuracy: Fraction = 0.5
    """Least accuracy of the consensus on the labelled samples of a vertical and attribute; below it, its pairs would
    do harm and are left out."""
    gate_min_labels: int = Field(5, ge=1)
    """With fewer labelled samples of a vertical and attribute, the gate judges the attribute over all verticals."""
    balance: float = Field(1.0, ge=0)
    """Pairs 'A over B' kept for each pair 'B over A', by weight; 0 switches the balance off."""
    anchors: bool = True
    """Keep unanimous samples as rows that have only the NLL term."""
    off_list_ratio: float = Field(0.5, ge=0)
    """Pairs 'A over an answer off the list' kept for each pair of listed values of the attribute. They raise A and
    lower no value."""
    anchor_ratio: float = Field(2.0, ge=0)
    """Anchors kept for each preference pair, at most."""
    anchor_floor: int = Field(200, ge=0)
    """Anchors allowed however few the pairs are; without pairs, there is nothing else to learn from."""
    anchor_agreement: Fraction = 0.9
    """Least agreement of an anchor. No chain of an anchor dissents, but chains that abstain (`not_visible`) lower its
    agreement."""
    labelled: bool = True
    """Mix in labelled training listings: the label, against a wrong chain where there is one."""
    pairs_per_sample: int = Field(1, gt=0)
    """Preference pairs from one listing and attribute, on different views where possible."""
    arm: Literal["consensus", "self_training", "plain", "true_labels"] = "consensus"
    """The method, or one of the ablations that it is compared with (docs/experiments.md)."""
    truth: str = ""
    """Labels (JSONL) of the listings that were sampled; only for the arm `true_labels`."""


class DpoConfig(TrainConfig):
    """Training of the next adapter on preference pairs, with the previous adapter as the reference."""

    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate; below that of SFT, because DPO moves fast."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs."""
    loss: Literal["sigmoid", "hinge", "ipo", "robust", "apo_zero", "apo_down"] = "sigmoid"
    """The loss on a pair, by its name in TRL; `sigmoid` is DPO."""
    beta: float = Field(0.1, gt=0)
    """How strongly the adapter is held to the reference."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """For `robust`: the fraction of pairs whose chosen chain is the worse one."""
    nll: float = Field(1.0, ge=0)
    """Weight of the NLL of the chosen chain (crucial according to Iterative RPO)."""

    @model_validator(mode="after")
    def _smoothing_is_used(self) -> "DpoConfig":
        if self.label_smoothing and self.loss != "robust":
            raise ValueError(f"label_smoothing does nothing with loss {self.loss}: leave it out, or set loss: robust")
        return self


class EvaluateConfig(Config):
    """Evaluation on the validation and test splits."""

    views: Views = "first"
    """Images by which a listing is judged: the first, each in turn with a vote, or all in one prompt."""
    batch_size: int = Field(32, gt=0)
    """Prompts decoded together; changes only speed and memory."""
    max_new_tokens: int = Field(64, gt=0)
    """Longest answer, in tokens."""
    bootstrap: int = Field(1_000, gt=0)
    """Resamples behind each interval."""
    report_examples: int = Field(48, ge=0)
    """Listings shown in the report with image and answers."""


class LoopConfig(Config):
    """How many iterations there are."""

    iterations: int = Field(2, ge=0, le=5)
    """Iterations after SFT, at most; a compiled pipeline has room for three by default."""
    min_gain: float = 0.0
    """Stop when validation macro accuracy gains less than this over the best so far."""


class TrackingConfig(Config):
    """Where MLflow records the run."""

    uri: str = ""
    """MLflow tracking server; empty for MLFLOW_TRACKING_URI, else a database file in the runs folder."""
    experiment: str = "attrloop"
    """MLflow experiment that the runs belong to."""
    model_name: str = "attribute-adapter"
    """Name of the registered model; without '/', ':', '@', '?' and '#', which mean something in
    models:/NAME@champion, and without line breaks."""

    @field_validator("experiment")
    @classmethod
    def _an_experiment(cls, name: str) -> str:
        if not name.strip() or len(name) > _LONGEST_EXPERIMENT:
            raise ValueError(f"MLflow takes names of 1 to {_LONGEST_EXPERIMENT} characters for an experiment")
        return name

    @field_validator("model_name")
    @classmethod
    def _a_model(cls, name: str) -> str:
        if wrong := sorted({letter for letter in name if letter in "/:@?#" or not letter.isprintable()}):
            raise ValueError(f"MLflow takes no {' or '.join(map(repr, wrong))} in the name of a model: models:/NAME/1")
        if not name.strip() or len(name) > _LONGEST_MODEL or name.startswith("..") or name == ".":
            raise ValueError(
                f"MLflow takes names of 1 to {_LONGEST_MODEL} characters for a registered model, not '.' or '..'"
            )
        return name


class PromoteConfig(Config):
    """The gate that decides whether a candidate becomes champion."""

    min_gold: int = Field(20, ge=1)
    """Gold answers of each vertical in the test split below which the gate refuses."""
    floor: Fraction = 0.0
    """Least accuracy of any vertical."""
    confidence: Fraction = 0.95
    """Confidence of the bootstrap bounds."""
    resamples: int = Field(2_000, gt=0)
    """Resamples of the bootstrap."""


class ReviewConfig(Config):
    """The queue of predictions that people review."""

    drawn: float = Field(0.2, ge=0, lt=1)
    """Fraction of the queue's listings that are drawn from the gold splits, however certain their answers are. The
    others are the least certain ones, which are trained on and tell nothing about the whole catalogue: only those
    drawn become gold."""


class RunConfig(Config):
    """Everything that decides a run's outcome."""

    name: str = Field("run", pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    """Name of the run and of its folder: lower-case letters, digits, dashes."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Every random choice derives from it. Below 2^32, because numpy takes no larger one."""
    data: DataConfig
    model: ModelConfig
    prompt: PromptConfig = PromptConfig()
    annotate: AnnotateConfig = AnnotateConfig()
    sft: SftConfig = SftConfig()
    sample: SampleConfig = SampleConfig()
    mine: MineConfig = MineConfig()
    dpo: DpoConfig = DpoConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    loop: LoopConfig = LoopConfig()
    tracking: TrackingConfig = TrackingConfig()
    promote: PromoteConfig = PromoteConfig()
    review: ReviewConfig = ReviewConfig()

    def digest(self, *parts: str) -> str:
        """Digest of all settings; or of some with the seed, without those that have no effect on what is finished.

        Args:
            parts: sections (`sample`) and fields (`model.base`); none for all settings.
        """
        if not parts:
            return digest(self.model_dump(mode="json"))
        raw, found = self.model_dump(mode="json"), dict[str, Any](seed=self.seed)
        for section, _, key in (part.partition(".") for part in parts):
            for name in (key,) if key else sorted(raw[section]):
                if f"{section}.{name}" not in WITHOUT_EFFECT:
                    found[f"{section}.{name}"] = raw[section][name]
        return digest(found)

    @property
    def run_name(self) -> str:
        """Name of the run's workspace: the config's name and a digest of everything that decides the outcome.

        The annotator's address is left out: the same model at another address gives the same run.
        """
        return f"{self.name}-{digest(self.model_dump(mode='json', exclude={'annotate': {'base_url'}}))[:8]}"


def load_config(path: str | Path) -> RunConfig:
    """Reads a run config (YAML) from a local path or a bucket URI; its relative paths start from its folder.

    Raises:
        InputError: a missing file, bad YAML, an unknown key or a value out of range, each with its line.
    """
    if not inputs.exists(path):
        raise fail(str(path), "no such config file", "Give the path of a run config (see examples/)")
    config = validate_yaml(RunConfig, inputs.text(path), str(path))
    folder = inputs.parent(inputs.absolute(path))
    raw = config.model_dump()
    for name in (*PATHS, "model.base"):
        section, key = name.split(".")
        raw[section][key] = located(name, raw[section][key], folder)
    return RunConfig.model_validate(raw)


def located(setting: str, value: Any, folder: str) -> Any:
    """A path, or each path of a list, as seen from a folder, absolute.

    A base model that is no folder there is a hub id and stays as it is.
    """
    if isinstance(value, list | tuple):
        return [located(setting, one, folder) for one in value]
    path = value and inputs.absolute(inputs.join(folder, value))
    return value if setting == "model.base" and not Path(path).is_dir() else path

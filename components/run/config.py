"""The run config: one serialisable record of a run, from which every component's parameters come. Defaults are explained where they stand.

None of the defaults is the paper's: arXiv 2507.19679 does not publish its settings. They are reasoned from ScPO (arXiv 2411.04109),
Iterative RPO (arXiv 2404.19733) and our own measurements.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from attrloop.components.digests import digest, file_digest
from attrloop.components.errors import fail
from attrloop.components.secrets import reveals
from attrloop.components.storage import inputs
from attrloop.components.validation import validate_yaml

Views = Literal["first", "all", "each"]
Share = Annotated[float, Field(ge=0, le=1)]


# Where a secret belongs that was found in a field; every record of a run shows its config.
_INSTEAD = {
    "uri": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a database's MLFLOW_TRACKING_URI,",
    "base_url": "the variable that key_env names",
}


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

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
    catalogue_schema: str  # schema.yaml: a local path or a URI, as all data
    listings: str  # the listings, JSONL or Parquet; relative paths of images start from their folder
    labels: str = ""  # labels that exist already (people's); "" for none
    allowed_hosts: tuple[
        str, ...
    ] = ()  # hosts and buckets that images may name, beside the listings' own: a listing must not make us call a host
    max_image_bytes: int = Field(20_000_000, gt=0)  # an encoded product photograph is far smaller
    max_image_pixels: int = Field(50_000_000, gt=0)  # decoded size; guards against decompression bombs
    max_bad_images: Share = (
        0.02  # listings whose images cannot be read are skipped and counted; above this share the run stops
    )
    check_images: int = Field(2_000, ge=0)  # how many images preflight opens (a sample, drawn by seed); 0 for none

    def content_digest(self) -> str:
        """Digest of schema, listings and given labels (of the files, not of the images they name).

        Raises:
            InputError: one of them is not there.
        """
        return digest(
            [file_digest(inputs.local(path)) for path in (self.catalogue_schema, self.listings, self.labels) if path]
        )


class ModelConfig(Config):
    base: str  # hub id or local folder of any VLM that AutoModelForImageTextToText loads
    revision: str = "main"  # pin a commit hash for hub models
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 where the device has it, else float32
    max_pixels: int = Field(
        448 * 448, gt=0
    )  # images are scaled down to this; it decides the number of visual tokens (256 in Qwen2.5-VL)
    processor: dict[str, Any] = Field(
        default_factory=dict
    )  # further arguments of AutoProcessor.from_pretrained, e.g. size or do_image_splitting
    lora_rank: int = Field(16, gt=0)  # small label sets need little capacity
    lora_alpha: int = Field(32, gt=0)  # the usual twice the rank
    lora_dropout: Share = 0.0  # DPO compares log-probabilities, dropout makes them noisy
    lora_targets: str = r".*(language_model|text_model).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"  # the language model only


class PromptConfig(Config):
    title: bool = False  # titles often hold the answer; the method is about images
    metadata: bool = False  # show a listing's known metadata to the model


class AnnotateConfig(Config):
    provider: str = "openai"  # who labels: a name in annotate/annotators.py; "openai" is any OpenAI-compatible endpoint
    base_url: str = "https://api.openai.com/v1"  # where the annotator is
    model: str = "gpt-4.1-mini"
    key_env: str = Field(
        "OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$"
    )  # the environment variable that holds the key; never the key itself
    train_per_vertical: int = Field(
        10, ge=0
    )  # listings labelled for SFT, uniform over verticals; the paper's order of magnitude
    validation_per_vertical: int = Field(20, ge=0)  # gold for choices: early stop, best iteration, consensus gate
    test_per_vertical: int = Field(20, ge=0)  # gold that is read once, at the end
    image_side: int = Field(768, gt=0)  # images are sent as JPEGs whose longest side is at most this
    max_images: int = Field(4, gt=0)  # images of a listing that are sent
    concurrency: int = Field(8, gt=0)  # requests in flight
    timeout_s: float = Field(60.0, gt=0)  # of one request
    retries: int = Field(5, ge=0)  # by the SDK, with back-off, honouring Retry-After
    max_calls: int = Field(2_000, ge=0)  # budget in requests; stops before crossing it
    max_cost: float = Field(20.0, ge=0)  # budget in US dollars; stops before crossing it
    price_in: float = Field(0.40, ge=0)  # US dollars per million prompt tokens of the model
    price_out: float = Field(1.60, ge=0)  # US dollars per million completion tokens
    max_failed: Share = 0.1  # share of listings whose answers may be unusable; above it the run stops


class TrainConfig(Config):
    """What SFT and DPO share."""

    learning_rate: float = Field(gt=0)
    epochs: float = Field(gt=0)
    batch_size: int = Field(8, gt=0)  # rows in one step on one device
    accumulation: int = Field(1, gt=0)  # steps gathered into one update
    warmup: Share = 0.03  # share of the updates
    max_grad_norm: float = Field(1.0, gt=0)
    checkpoint_steps: int = Field(100, gt=0)  # updates between checkpoints; a killed task goes on from the last
    gradient_checkpointing: bool = False  # slower but smaller; needed when the device's memory is short


class SftConfig(TrainConfig):
    learning_rate: float = 2e-4  # usual for LoRA
    epochs: float = 10.0  # some 10 labels per vertical: many passes are needed and harmless
    views: Views = "first"  # the images of a labelled listing that are trained on
    feature_noise: float = Field(
        0.0, ge=0
    )  # Gaussian noise on image features, in their own standard deviations: a few labels overfit less


class SampleConfig(Config):
    engine: Literal["transformers", "vllm"] = (
        "transformers"  # vllm needs the sampler image; the chains are as good, not the same
    )
    chains: int = Field(8, gt=0)  # per (listing, attribute) over all its views; ScPO's k
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    views: Views = (
        "each"  # what a chain sees: agreement across photographs is evidence, agreement on one is mostly confidence
    )
    max_new_tokens: int = Field(64, gt=0)
    batch_size: int = Field(16, gt=0)  # prompts decoded together, each with its chains; vllm decides by itself how many
    shard_size: int = Field(200, gt=0)  # listings per Parquet shard; a finished shard is not sampled again
    max_listings: int = Field(0, ge=0)  # unlabelled listings to sample, drawn by seed; 0 for all


class MineConfig(Config):
    calibrate: bool = True  # weigh votes by what the model's answers turned out to mean on labelled listings; without labels plain shares
    consensus: Share = (
        0.5  # least support of the winner, its share of the chains or calibrated probability (ScPO: 0.5 k)
    )
    min_votes: int = Field(4, ge=2)  # least number of on-list answers of a sample
    gate_accuracy: Share = 0.5  # consensus must be right on at least this share of labelled samples of a (vertical, attribute): below it harms
    gate_min_labels: int = Field(
        5, ge=1
    )  # with fewer labelled samples of a (vertical, attribute) the gate judges the attribute over all verticals
    balance: float = Field(
        1.0, ge=0
    )  # 'A over B' pairs kept per 'B over A' pair, by weight; 0 switches the contrast balance off
    anchors: bool = True  # keep unanimous samples as rows with the NLL term only
    off_list_ratio: float = Field(
        0.5, ge=0
    )  # 'A over off the list' pairs kept per pair of listed values in an attribute: they lift A and push no value down
    anchor_ratio: float = Field(2.0, ge=0)  # at most this many anchors per preference pair
    anchor_floor: int = Field(
        200, ge=0
    )  # anchors allowed however few the pairs: without pairs they are all there is to learn from
    anchor_agreement: Share = (
        0.9  # least agreement of an anchor; no chain dissents, but chains that abstain (`not_visible`) lower it
    )
    labelled: bool = True  # mix labelled training listings in: the label, against a wrong chain where there is one
    pairs_per_sample: int = Field(
        1, gt=0
    )  # preference pairs from one (listing, attribute), on different views where possible
    arm: Literal["consensus", "self_training", "plain", "true_labels"] = (
        "consensus"  # ablations: see docs/experiments.md
    )
    truth: str = ""  # only for the arm `true_labels`: path of labels (JSONL) of the listings that were sampled


class DpoConfig(TrainConfig):
    learning_rate: float = 5e-5
    epochs: float = 1.0
    beta: float = Field(0.1, gt=0)
    nll: float = Field(1.0, ge=0)  # weight of the NLL on the chosen chain (Iterative RPO: crucial)


class EvaluateConfig(Config):
    views: Views = "first"  # one image unless you say otherwise
    batch_size: int = Field(32, gt=0)
    max_new_tokens: int = Field(64, gt=0)
    bootstrap: int = Field(1_000, gt=0)  # resamples behind every interval
    report_examples: int = Field(48, ge=0)  # listings shown with image and answers in the report


class LoopConfig(Config):
    iterations: int = Field(2, ge=0, le=5)  # at most this many; the compiled pipeline holds three by default
    min_gain: float = 0.0  # stop when validation macro accuracy gains less than this over the best so far


class TrackingConfig(Config):
    uri: str = (
        ""  # MLflow tracking server; "" for the environment's MLFLOW_TRACKING_URI, else sqlite in the runs folder
    )
    experiment: str = "attrloop"
    model_name: str = "attribute-adapter"  # the registered model


class PromoteConfig(Config):
    min_gold: int = Field(20, ge=1)  # gold samples per vertical below which the gate refuses
    floor: Share = 0.0  # least accuracy of any vertical
    confidence: Share = 0.95  # of the bootstrap bounds
    resamples: int = Field(2_000, gt=0)


class RunConfig(Config):
    """Everything that decides a run's outcome."""

    name: str = Field("run", pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    seed: int = 0
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

    def digest(self, *parts: str) -> str:
        """Digest of the named sections (all by default) together with the seed."""
        return digest(self.model_dump(mode="json", include={"seed", *parts} if parts else None))


def load_config(path: str | Path) -> RunConfig:
    """Reads a run config (YAML) from a local path or a URI; relative data paths start from its folder, so does a local model's.

    Raises:
        InputError: a missing file, bad YAML, an unknown key or a value out of range, each with its line.
    """
    if not inputs.exists(path):
        raise fail(str(path), "no such config file", "Give the path of a run config (see examples/)")
    config = validate_yaml(RunConfig, inputs.text(path), str(path))
    folder = inputs.parent(inputs.absolute(path))

    def absolute(value: str) -> str:
        return value and inputs.absolute(inputs.join(folder, value))

    base = Path(absolute(config.model.base))
    return config.model_copy(
        update={
            "data": config.data.model_copy(
                update={key: absolute(getattr(config.data, key)) for key in ("catalogue_schema", "listings", "labels")}
            ),
            "mine": config.mine.model_copy(update={"truth": absolute(config.mine.truth)}),
            "model": config.model.model_copy(update={"base": str(base) if base.is_dir() else config.model.base}),
        }
    )

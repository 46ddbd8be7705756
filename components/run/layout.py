"""Where everything lies in a run's workspace, as paths from its root. No other module spells such a path.

A stage is a stage of the loop: `base`, `sft` (or `start`, for an adapter that was trained before), `iteration-1`,
`iteration-2`, ...
"""

from urllib.parse import quote

CONFIG = "config.json"
STATE = "state.json"  # the loop's latest state
REPORT = "report.html"
SUMMARY = "summary.json"
KFP = "kfp"  # of a local run: what kfp.local leaves
LOGS = "logs"  # of a local run: what the steps printed

# Names within an artifact.
ADAPTER, SETTINGS = "adapter", "settings.json"  # of an adapter's training or of its copy
LEARNT = "learnt.parquet"  # beside an adapter: what it and its ancestors have learnt from
TRAINING_CURVE, CHECKPOINTS = "metrics.jsonl", "checkpoints"  # of a training
PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"  # of an evaluation
SHARDS = "shards"  # predictions of an evaluation that is not finished
LABELS_FILE = "labels.jsonl"
LISTINGS_FILE = "listings.jsonl"  # gold that is left out of comparisons, and why
PAIRS_FILE = "pairs.parquet"
MINING = "work"  # candidates and tallies of a mining that is not finished
QUEUE = "queue.parquet"  # of a review
SPLITS_FILE, PHOTOGRAPHS_FILE = "splits.parquet", "photographs.parquet"
DETAILS = "report.json"  # what a step did, in numbers
RESULT = "result.json"  # the outcome of registration or promotion

PREFLIGHT = "preflight"
PREFLIGHT_REPORT = f"{PREFLIGHT}/{DETAILS}"
SPLITS = "splits"  # the split of every listing
ANNOTATE = "annotate"
LABELS = f"{ANNOTATE}/{LABELS_FILE}"
ANNOTATE_REPORT = f"{ANNOTATE}/{DETAILS}"
ANNOTATE_CACHE = (
    "annotate-cache"  # replies that were paid for: beside ANNOTATE, which is emptied when its inputs change
)
LEFT_OUT = "left-out"
LEFT_OUT_FILE = f"{LEFT_OUT}/{LISTINGS_FILE}"
SFT = "sft"
START = "start"  # an adapter that was trained before, brought into this run
REGISTER = "register"
REGISTRATION = f"{REGISTER}/{RESULT}"
PROMOTE = "promote"
PROMOTION = f"{PROMOTE}/{RESULT}"
CATALOGUE = "catalogue"  # the check of a catalogue that is predicted
CATALOGUE_PREDICTIONS = "predictions"  # of a whole catalogue
REVIEW = "review"  # the predictions that a person should look at
REVIEW_SUMMARY = f"{REVIEW}/{SUMMARY}"
EVENTS = "events"  # what the steps do and did, one JSON object for each attempt of a step
CHAMPIONS = "champions"  # workspaces in which champions of other runs answer this run's gold


def promotions(model: str) -> str:
    """The promotions ledger of a registered model; in the runs folder, for all runs."""
    return f"promotions/{quote(model, safe=' ')}"


def submitted(key: str) -> str:
    """The config that `attrloop submit` puts there for a run, by the run's key."""
    return f"submitted/{key}.json"


def training(stage: str) -> str:
    """The folder in which a stage's adapter was trained: `sft`, `start`, or `iteration-1/dpo`."""
    return f"{stage}/dpo" if stage.startswith("iteration-") else stage


def adapter(stage: str) -> str:
    """The PEFT folder of a stage; "" for the base model, which has none."""
    return "" if stage == "base" else f"{training(stage)}/{ADAPTER}"


def trained_by(adapter_path: str) -> str:
    """The folder of the training that made an adapter, from the adapter's path."""
    return adapter_path.removesuffix(f"/{ADAPTER}")


def stage_of(adapter_path: str) -> str:
    """The stage that an adapter belongs to, from the adapter's path."""
    return trained_by(adapter_path).removesuffix("/dpo")


def learnt(adapter_path: str) -> str:
    """The record of what an adapter and its ancestors have learnt from, from the adapter's path."""
    return f"{trained_by(adapter_path)}/{LEARNT}"


def checkpoints(stage: str) -> str:
    """The checkpoints of a training that is not finished."""
    return f"{training(stage)}/{CHECKPOINTS}"


def curve(stage: str) -> str:
    """The training curve of a stage, JSONL."""
    return f"{training(stage)}/{TRAINING_CURVE}"


def chains(stage: str) -> str:
    """The chains that an iteration sampled."""
    return f"{stage}/chains"


def pairs(stage: str) -> str:
    """The preference pairs that an iteration mined."""
    return f"{stage}/pairs"


def pairs_file(stage: str) -> str:
    """The Parquet file of an iteration's preference pairs."""
    return f"{pairs(stage)}/{PAIRS_FILE}"


def pairs_report(stage: str) -> str:
    """What an iteration's mining kept, dropped and why."""
    return f"{pairs(stage)}/{DETAILS}"


def evaluation(split: str, stage: str = "") -> str:
    """The evaluation of a stage on a split of the gold labels; without a stage the folder of them all."""
    return f"evaluate/{split}/{stage}".rstrip("/")


def predictions(split: str, stage: str) -> str:
    """The predictions of a stage on a split, Parquet."""
    return f"{evaluation(split, stage)}/{PREDICTIONS}"


def metrics(split: str, stage: str) -> str:
    """The metrics of a stage on a split, JSON: a `results.evaluation.Evaluation`."""
    return f"{evaluation(split, stage)}/{METRICS}"


def stage_of_evaluation(path: str) -> str:
    """The stage that a file below `evaluation(split)` belongs to."""
    return path.split("/")[2]


def champion(version: str) -> str:
    """The workspace in which a champion of another run answers this run's gold."""
    return f"{CHAMPIONS}/{version}"


def champion_stage(version: str) -> str:
    """The name, in place of a stage's, of the evaluation of a champion that another run trained."""
    return f"champion-{version}"


def is_champion(stage: str) -> bool:
    """Whether a name is one of `champion_stage`."""
    return stage.startswith("champion-")


def event(name: str) -> str:
    """The event of one attempt of a step."""
    return f"{EVENTS}/{name}.json"

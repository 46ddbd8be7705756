"""Checks of the base model from its config alone: it is a VLM, and the LoRA regex matches its language model."""

import json
import platform
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from attrloop.components.engines.registry import require
from attrloop.components.engines.vllm import room_for
from attrloop.components.errors import InputError, Problem
from attrloop.components.preflight.finding import Finding
from attrloop.components.run.config import ModelConfig, RunConfig

_TIMEOUT = 180  # seconds: reading a config from the hub and building a large model without weights


def check_model(config: ModelConfig) -> tuple[Finding, dict[str, Any]]:
    """Checks the base model.

    Returns:
        the finding, and what `probe` found out about the model; {} when nothing.
    """
    finding, where = Finding("base model"), f"model.base {config.base}"
    broken = _regex(config.lora_targets)
    finding.problems += broken
    if ("/" not in config.base or Path(config.base).exists()) and not Path(config.base, "config.json").is_file():
        remedy = "Give a model's folder, or its id on the hub (owner/name)"
        finding.problems.append(Problem(where, "no config.json there", remedy))
        return finding, {}
    known = _probe(config.base, config.revision, "" if broken else config.lora_targets)
    if "error" in known:
        remedy = (
            "Correct model.base or model.revision; without a network (or with HF_HUB_OFFLINE) the model must be in the "
            "hub cache already"
        )
        finding.problems.append(Problem(where, f"its config cannot be read ({known['error']})", remedy))
        finding.detail = "not checked: whether it is a vision-language model, its size, what model.lora_targets matches"
        return finding, {}
    if not known["vlm"]:
        what = f"{known['model_type']!r} is not a vision-language model"
        finding.problems.append(
            Problem(where, what, "Use a model that AutoModelForImageTextToText loads, e.g. Qwen/Qwen2.5-VL-3B-Instruct")
        )
    elif "targets" not in known:
        finding.note, finding.detail = True, f"{known['model_type']}; its modules cannot be listed without the weights"
    elif not broken:
        finding.detail = (
            f"{known['model_type']}, {known['parameters'] / 1e6:,.1f} M parameters, LoRA on {known['targets']} modules"
        )
        finding.problems += _targets(known, config.lora_targets)
    return finding, known


def _regex(targets: str) -> list[Problem]:
    try:
        re.compile(targets)
    except re.error as error:
        return [Problem(f"model.lora_targets {targets!r}", f"not a regular expression ({error})", "Correct it")]
    return []


def _targets(known: dict[str, Any], targets: str) -> list[Problem]:
    where = f"model.lora_targets {targets!r}"
    if not known["targets"]:
        return [
            Problem(
                where,
                f"matches no module of {known['model_type']}",
                "Correct it; it must match whole module names",
            )
        ]
    if known["in_tower"]:
        what = f"also matches the vision tower ({', '.join(known['in_tower'])} ...), which stays frozen"
        return [Problem(where, what, "Let it match only modules of the language model")]
    return []


@lru_cache
def _probe(base: str, revision: str, targets: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "attrloop.components.preflight.probe", base, revision, targets]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {_TIMEOUT} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]}
    return json.loads(lines[-1])


def check_engine(config: RunConfig) -> Finding:
    """The sampling engine can serve adapters of this rank; whether it is installed is known only for this machine."""
    engine = config.sample.engine
    finding = Finding("sampling engine", engine)
    if engine == "vllm":
        with finding.gathering("sample.engine vllm"):
            room_for(config.model.lora_rank, f"model.lora_rank {config.model.lora_rank}")
    try:
        require(engine)
    except InputError:
        finding.note = True
        finding.detail = f"{engine}; not installed here, so the sampling steps need an image that has it"
    return finding


def check_gpu() -> Finding:
    """A note when there is no GPU, found out without torch."""
    if shutil.which("nvidia-smi") is None:
        where = (
            "a Mac's GPU is not used"
            if platform.system() == "Darwin"
            else "training and sampling run on the CPU, which is fast enough only for tiny models"
        )
        return Finding("GPU", f"no NVIDIA GPU here: {where}", note=True)
    listed = (
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
        .stdout.strip()
        .splitlines()
    )
    return Finding("GPU", listed[0].split(" (UUID")[0] if listed else "the driver lists no GPU", note=not listed)

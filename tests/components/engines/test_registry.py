"""Engines are known by name, in one table, and none is loaded before it is opened."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import get_args

import pytest

from attrloop.components.engines.registry import ENGINES, open_engine, require
from attrloop.components.engines.vllm import room_for
from attrloop.components.errors import InputError
from attrloop.components.run.config import SampleConfig
from attrloop.components.run.workspace import Workspace
from attrloop.components.sft.train import ADAPTER
from tests.small import change_config

ABSENT = importlib.util.find_spec("vllm") is None


def test_the_config_takes_the_names_in_the_table() -> None:
    assert get_args(SampleConfig.model_fields["engine"].annotation) == tuple(ENGINES)
    with pytest.raises(ValueError, match="transformers"):
        SampleConfig(engine="onnx")


@pytest.mark.parametrize("name", list(ENGINES))
def test_every_name_leads_to_something_that_opens_an_engine(name: str) -> None:
    assert callable(resolve_name(ENGINES[name]))


def test_the_table_is_read_without_torch_and_no_step_loads_vllm_unasked() -> None:
    light = "import sys\nfrom attrloop.components.engines import registry, vllm\nsys.exit('torch' in sys.modules)"
    modules = ("sample_chains.sample", "predict.predict", "preflight.check", "model.vllm_engine")
    steps = "import sys\n" + "".join(f"import attrloop.components.{name}\n" for name in modules)
    for code in (light, f"{steps}sys.exit('vllm' in sys.modules)"):
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not ABSENT, reason="vLLM is installed")
def test_an_engine_that_is_not_installed_is_refused_with_the_remedy(copy_of: Callable[[str], Path]) -> None:
    workspace = copy_of("qwen2_5_vl")
    change_config(workspace, sample={"engine": "vllm"})
    told = r"vllm is not installed here. Install vllm, or sample in an image .*, or set sample.engine: transformers"
    with pytest.raises(InputError, match=told):
        open_engine(Workspace.open(str(workspace)), ADAPTER)


@pytest.mark.parametrize("name", list(ENGINES))
def test_no_engine_is_taken_for_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"sample.engine {name}: {name} is not installed here"):
        require(name)


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (16, 16), (100, 128), (512, 512)])
def test_vllm_is_given_room_for_the_rank(rank: int, room: int) -> None:
    assert room_for(rank, "adapter") == room


def test_a_rank_beyond_what_vllm_holds_is_refused() -> None:
    told = r"adapter: vLLM holds LoRA ranks up to 512, not 513. Train with a smaller model.lora_rank"
    with pytest.raises(InputError, match=told):
        room_for(513, "adapter")

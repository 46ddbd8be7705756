"""The sampler image's pins are attrloop's wherever vLLM leaves them free: what was tested is what samples."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# That vLLM, or numba for it, pins otherwise.
DIFFERENT = {"fastapi", "numpy", "opencv-python-headless", "torch", "torchvision", "transformers"}


def pins(file: Path) -> dict[str, str]:
    lines = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    return {
        name.lower().replace("_", "-").replace(".", "-"): version
        for name, version in (line.split("==") for line in lines)
    }


def test_pins_differ_only_where_vllm_wants_it() -> None:
    sampler, own = pins(ROOT / "images" / "sampler" / "constraints.txt"), pins(ROOT / "constraints.txt")
    assert {name for name, version in sampler.items() if own.get(name, version) != version} == DIFFERENT
    assert {"vllm", "peft", "kfp", "polars", "google-cloud-storage", "boto3"} <= sampler.keys()

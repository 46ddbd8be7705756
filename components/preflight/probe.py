"""Looks at a base model without its weights; runs as a separate process, because it imports torch.

    python -m attrloop.components.preflight.probe BASE REVISION LORA_TARGETS

prints one JSON object: `error`, or `model_type`, `vlm`, `hidden` (width of the language model) and, for a VLM whose
modules can be built without weights, `parameters`, `targets` (how many modules the LoRA regex matches), `target_sizes`
(sum of their inputs and outputs) and `in_tower` (matches outside the language model).
"""

import json
import os
import re
import sys
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def probe(base: str, revision: str, targets: str) -> dict[str, Any]:
    """What is known of a base model, as printed.

    Args:
        base: hub id or folder.
        revision: of a hub model.
        targets: the LoRA regex; "" when it is not one.
    """
    import attrloop.components.model  # noqa: F401, I001 - makes torchvision importable
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        return {"error": " ".join(str(error).split())[:300]}
    text = config.get_text_config()
    found = {
        "model_type": config.model_type,
        "vlm": config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        "hidden": getattr(text, "hidden_size", 0),
    }
    return found | _modules(config, targets) if found["vlm"] else found


def _modules(config: Any, targets: str) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForImageTextToText

    auto: Any = AutoModelForImageTextToText
    try:
        with torch.device("meta"):
            model = auto.from_config(config, trust_remote_code=False)
    except Exception:  # an architecture that cannot be built on the meta device: less is known beforehand
        return {}
    hit = {name: module for name, module in model.named_modules() if re.fullmatch(targets, name)}
    sizes = [sum(module.weight.shape) for module in hit.values() if getattr(module, "weight", None) is not None]
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "targets": len(hit),
        "target_sizes": sum(sizes),
        "in_tower": [name for name in hit if re.search(r"visual|vision|image", name)][:3],
    }


if __name__ == "__main__":
    print(json.dumps(probe(*sys.argv[1:4])))

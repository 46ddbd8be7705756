"""Lets torchvision be imported beside a build of torch that its compiled operators do not fit, e.g. a CPU build.

The processors of transformers import torchvision for video. attrloop never calls its compiled operators. This module
has to run before transformers is imported; the package's `__init__` sees to that.
"""

import importlib.util
from pathlib import Path

import torch


def _compiled_operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # nothing to import, nothing to mend
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True


if not _compiled_operators_load():
    _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call] # definitions live as long as this object
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]

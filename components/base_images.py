"""The images that steps run in (see images/), read from the environment when a pipeline is compiled.

Steps that kfp.local runs as processes need none.
"""

import os

PLACEHOLDER = "attrloop-python:dev"  # does not exist; 'python' in its name keeps kfp.local from warning
WORKER = os.environ.get("ATTRLOOP_WORKER_IMAGE") or PLACEHOLDER
TRAINER = os.environ.get("ATTRLOOP_TRAINER_IMAGE") or PLACEHOLDER
SAMPLER = os.environ.get("ATTRLOOP_SAMPLER_IMAGE") or TRAINER

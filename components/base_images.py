"""The images that steps run in, read from the environment when a pipeline is compiled (see images/). kfp.local's processes need none."""

import os

PLACEHOLDER = "attrloop-python:dev"  # exists nowhere; 'python' in it keeps kfp.local from warning
WORKER = os.environ.get("ATTRLOOP_WORKER_IMAGE") or PLACEHOLDER
TRAINER = os.environ.get("ATTRLOOP_TRAINER_IMAGE") or PLACEHOLDER
SAMPLER = os.environ.get("ATTRLOOP_SAMPLER_IMAGE") or TRAINER

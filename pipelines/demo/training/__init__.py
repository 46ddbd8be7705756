"""Trains the demo's base model, which the repository ships."""

import attrloop.components.model as model  # first: it makes torchvision importable for transformers

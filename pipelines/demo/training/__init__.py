"""Makes the demo's base model, which the repository ships; a run never needs this."""

from attrloop.components import model as model  # first: it makes torchvision importable for transformers

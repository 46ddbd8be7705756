"""Makes the demo's base model, which the repository ships; a run never needs this."""

import attrloop.components.model as model  # first: it makes torchvision importable for transformers

"""All that needs torch: the vision-language model, decoding and training with it, and the engines that decode chains.

Importing this package makes torchvision importable (see torchvision_operators.py). Import it before transformers.
"""

from attrloop.components.model import torchvision_operators as torchvision_operators

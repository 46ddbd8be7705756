"""All that needs torch: the vision-language model, decoding and training with it, and the engines that decode chains.

Importing anything from here first makes torchvision importable (see torchvision_operators.py), so import it before transformers.
"""

from attrloop.components.model import torchvision_operators as torchvision_operators

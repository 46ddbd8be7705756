"""The vision-language model: decoding and training with it, and the engines that decode chains. Everything needs torch.

`vlm` is the model with its adapter. `texts`, `tokens`, `features` and `encoded` turn prompts and images into what it
takes; `decoding` and `vllm_engine` write chains, and `logprobs` and `prefix` measure chains that are written.
`training` and `processes` train, through `trl_trainers`, the only module that knows TRL.

Importing this package makes torchvision importable (see torchvision_operators.py). Import it before transformers.
"""

from attrloop.components.model import torchvision_operators as torchvision_operators

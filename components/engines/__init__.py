"""Engines decode chains.

`engine` is their protocol and what they are asked for, `registry` the table of names, and `chains` decodes the chains
of listings with whichever engine it gets. `vllm` knows which adapters vLLM can hold, and `lengths`
how many tokens a text has.

Nothing here imports torch. An engine itself lives in `model` and is loaded when a step has something to decode.
"""

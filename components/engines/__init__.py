"""What decodes chains, without loading it: the `Engine` protocol, how it is asked to decode, and the table of engines by name.

Nothing here imports torch. An engine itself lives in `model` and is loaded when a step has something to decode.
"""

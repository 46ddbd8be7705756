"""How many tokens a text has, by the tokenizer's file alone: neither torch nor transformers is imported."""

import os
from collections.abc import Sequence

from huggingface_hub import hf_hub_download

_FILE = "tokenizer.json"


def token_counts(base: str, revision: str, texts: Sequence[str]) -> list[int] | None:
    """Tokens of each text and of the end token that follows it; None if there is no `tokenizer.json` to be read.

    Args:
        base: a folder or a hub id.
        revision: of a hub model.
        texts: what a model is to write.
    """
    try:
        from tokenizers import Tokenizer  # not installed where no model is loaded

        folder = os.path.isdir(base)
        path = os.path.join(base, _FILE) if folder else hf_hub_download(base, _FILE, revision=revision)
        tokenizer = Tokenizer.from_file(path)
    except Exception:  # the library raises plain exceptions; another check names a base that cannot be read
        return None
    tokenizer.encode_special_tokens = True  # a control token's name is characters
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(made.ids) + 1 for made in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

"""What vLLM can hold, known without loading it."""

from attrloop.components.errors import fail

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # LoRA ranks that vLLM makes room for


def room_for(rank: int, where: str) -> int:
    """The smallest LoRA rank that vLLM can be started with to hold one of `rank`.

    Raises:
        InputError: vLLM has no room for such a rank.
    """
    for room in RANKS:
        if rank <= room:
            return room
    raise fail(
        where,
        f"vLLM holds LoRA ranks up to {RANKS[-1]}, not {rank}",
        "Train with a smaller model.lora_rank, or set sample.engine: transformers",
    )

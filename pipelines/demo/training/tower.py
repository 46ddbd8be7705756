"""Trains the vision tower of the demo's base: a small CNN learns to see, then a Qwen2.5-VL tower is distilled from it.

A vision transformer of this size learns slowly from labels alone, while the CNN reaches its ceiling in minutes. The
tower gets there too when its 16 merged tokens are regressed on the CNN's 4 x 4 feature map, besides learning to
classify.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from attrloop.pipelines.demo.renderer import IMAGE_SIZE, render
from attrloop.pipelines.demo.world import FAMILIES, VERTICALS, sample_product

Split = tuple[torch.Tensor, torch.Tensor]  # images and labels (see `render_set`)
WIDTH = 128  # of a visual token: the CNN's channels, the merger's output, the language model's hidden size
GRID = 4  # visual tokens per side
VISION_CONFIG = dict(
    depth=4, hidden_size=96, intermediate_size=256, num_heads=4, patch_size=8, spatial_merge_size=2,
    temporal_patch_size=2, window_size=64, fullatt_block_indexes=[0, 1, 2, 3], out_hidden_size=WIDTH, in_channels=3,
)  # fmt: skip
_BROAD = (0.0, 1.2)  # difficulties that the tower learns from: the catalogue's is one of them, but not the centre


def _render_many(task: tuple[int, int, tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    count, seed, difficulty = task
    rng = np.random.default_rng(seed)
    images = np.zeros((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    labels = np.full((count, len(FAMILIES) + 1), -100)  # one column per family, then the vertical
    for k in range(count):
        vertical, values = sample_product(rng)
        images[k] = render(vertical, values, rng, rng.uniform(*difficulty))
        labels[k, -1] = list(VERTICALS).index(vertical)
        for column, family in enumerate(FAMILIES):
            if family in values:
                labels[k, column] = FAMILIES[family].values.index(values[family])
    return images, labels


def render_set(count: int, seed: int, difficulty: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Renders labelled photographs of random products.

    Returns:
        Images, uint8 of shape [count, 3, size, size], and labels of shape [count, families + 1]: the index of each
        family's value (-100 for a family that the product lacks), then that of the vertical.
    """
    with ProcessPoolExecutor(2) as pool:
        chunks = list(pool.map(_render_many, [(count // 20, seed * 1000 + k, difficulty) for k in range(20)]))
    images, labels = (np.concatenate(column) for column in zip(*chunks, strict=True))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Maps uint8 to [-1, 1], like the shipped image processor (mean 0.5, deviation 0.5)."""
    return images.float().div_(127.5).sub_(1)


class Heads(nn.Module):
    """Linear classifiers of every family and of the vertical, on the flattened tokens [batch, 16, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [len(family.values) for family in FAMILIES.values()] + [len(VERTICALS)]
        self.heads = nn.ModuleList(nn.Linear(WIDTH * GRID * GRID, size) for size in sizes)

    def forward(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """Logits [batch, values] of each classifier."""
        return [head(tokens.flatten(1)) for head in self.heads]


class Teacher(nn.Module):
    """The CNN. Its last feature map is read as 16 tokens of WIDTH."""

    def __init__(self) -> None:
        super().__init__()
        plan = [(3, 24, 2), (24, 48, 1), (48, 48, 2), (48, 96, 1), (96, 96, 2), (96, WIDTH, 1), (WIDTH, WIDTH, 2)]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(i, o, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(o),
                    nn.ReLU() if k < len(plan) - 1 else nn.Identity(),
                )
                for k, (i, o, stride) in enumerate(plan)
            )
        )
        self.heads = Heads()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens [batch, 16, WIDTH] of normalised images [batch, 3, 64, 64]."""
        return self.layers(images).flatten(2).transpose(1, 2)


class Student(nn.Module):
    """The Qwen2.5-VL tower, run on a batch of images of one size instead of one image at a time (see `parity`)."""

    def __init__(self) -> None:
        super().__init__()
        config = Qwen2_5_VLVisionConfig(**VISION_CONFIG)
        self.tower = Qwen2_5_VisionTransformerPretrainedModel(config)
        self.heads = Heads()
        side, head_width = IMAGE_SIZE // config.patch_size, config.hidden_size // config.num_heads
        self.num_heads, self.side = config.num_heads, side
        rows = torch.arange(side)[:, None].expand(side, side).reshape(GRID, 2, GRID, 2).permute(0, 2, 1, 3).reshape(-1)
        columns = torch.arange(side)[None].expand(side, side).reshape(GRID, 2, GRID, 2).permute(0, 2, 1, 3).reshape(-1)
        frequency = 1 / (10000 ** (torch.arange(0, head_width // 2, 2).float() / (head_width // 2)))
        angle = torch.cat([rows[:, None] * frequency, columns[:, None] * frequency], -1)
        self.register_buffer("angle", torch.cat([angle, angle], -1), persistent=False)

    def patches(self, images: torch.Tensor) -> torch.Tensor:
        """Cuts images [batch, 3, 64, 64] into patches [batch, 64, 3 * 2 * 8 * 8], in the processor's order."""
        batch, patch = len(images), IMAGE_SIZE // self.side
        grid = (
            images.view(batch, 3, GRID, 2, patch, GRID, 2, patch)
            .permute(0, 2, 5, 3, 6, 1, 4, 7)
            .reshape(batch, self.side**2, 3, 1, patch * patch)
        )
        return grid.expand(-1, -1, -1, 2, -1).reshape(batch, self.side**2, -1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens [batch, 16, WIDTH] of normalised images [batch, 3, 64, 64]."""
        batch, half = len(images), self.angle.shape[-1] // 2
        cos, sin = self.angle.cos(), self.angle.sin()

        def rotate(x: torch.Tensor) -> torch.Tensor:
            return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

        hidden = self.patches(images) @ self.tower.patch_embed.proj.weight.flatten(1).T
        for block in self.tower.blocks:
            query, key, value = (
                block.attn.qkv(block.norm1(hidden))
                .view(batch, self.side**2, 3, self.num_heads, -1)
                .permute(2, 0, 3, 1, 4)
            )
            attention = F.scaled_dot_product_attention(rotate(query), rotate(key), value.contiguous())
            hidden = hidden + block.attn.proj(attention.transpose(1, 2).reshape(batch, self.side**2, -1))
            hidden = hidden + block.mlp(block.norm2(hidden))
        return self.tower.merger(hidden.reshape(batch * self.side**2, -1)).view(batch, GRID * GRID, WIDTH)

    @torch.no_grad()
    def parity(self) -> float:
        """The largest difference between this forward pass and the tower's own, on random images."""
        images = torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE)
        own = self.tower(
            self.patches(images).flatten(0, 1), grid_thw=torch.tensor([[1, self.side, self.side]] * 3)
        ).pooler_output
        own = torch.cat(list(own)) if isinstance(own, (list, tuple)) else own
        return float((own.view(3, GRID * GRID, WIDTH) - self(images)).abs().max())


@torch.no_grad()
def accuracy(net: Teacher | Student, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Accuracy of the heads, in [0, 1], by family and for the vertical."""
    net.eval()
    outputs = [net.heads(net(normalise(part))) for part in images.split(500)]
    net.train()
    result = {}
    for column, name in enumerate([*FAMILIES, "vertical"]):
        known = labels[:, column] >= 0
        guess = torch.cat([output[column] for output in outputs]).argmax(1)
        result[name] = round(float((guess == labels[:, column])[known].float().mean()), 3)
    return result


def _jitter(images: torch.Tensor) -> torch.Tensor:
    batch = len(images)
    return normalise(images) * (1 + 0.3 * (torch.rand(batch, 1, 1, 1) - 0.5)) + 0.2 * (torch.rand(batch, 3, 1, 1) - 0.5)


def _schedule(optimiser: torch.optim.Optimizer, rate: float, first: int, steps: int) -> Iterator[int]:
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step - first + 1) / 200) * max(0.01, 1 - step / steps)
        yield step


def train(
    net: Teacher | Student,
    steps: int,
    rate: float,
    data: Split,
    *,
    probe: dict[str, Split],
    log: Path,
    teacher: Teacher | None = None,
) -> None:
    """Trains on labels and, with a teacher, on its normalised tokens.

    Args:
        net: to be trained.
        steps: of the optimiser.
        rate: the highest learning rate.
        data: to train on.
        probe: sets to measure accuracy on.
        log: JSONL file that gets a line every 500 steps. Training goes on from the last of them.
        teacher: trained before; None to learn from labels alone.
    """
    images, labels = data
    saved = log.with_name(f"{type(net).__name__.lower()}.safetensors")
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    first = max((line["step"] for line in lines if line["net"] == type(net).__name__), default=0)
    if first:
        net.load_state_dict(load_file(saved))
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.05)
    forward = torch.compile(net)
    started = time.monotonic()
    for step in _schedule(optimiser, rate, first, steps):
        rows = torch.randint(0, len(images), (128,))
        inputs = _jitter(images[rows])
        with torch.autocast(
            "cpu", torch.bfloat16, enabled=isinstance(net, Teacher)
        ):  # bf16 slows the narrow tower down
            tokens = forward(inputs).float()
        loss = sum(
            (0.3 if column == len(FAMILIES) else 1.0) * F.cross_entropy(logits, labels[rows, column], ignore_index=-100)
            for column, logits in enumerate(net.heads(tokens))
        )
        if teacher is not None:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                target = teacher(inputs)
            loss = loss + 5 * F.smooth_l1_loss(tokens, target.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % 500 == 0 or step + 1 == steps:
            line = {
                "net": type(net).__name__,
                "step": step + 1,
                "seconds": round(time.monotonic() - started),
                "loss": round(float(loss), 3),
            }
            line |= {name: accuracy(net, *split) for name, split in probe.items()}
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, saved)
            print(line, flush=True)


def make_tower(
    work: Path, renders: int = 120_000, teacher_steps: int = 4_000, student_steps: int = 7_000, seed: int = 0
) -> Path:
    """Makes `tower.safetensors` in `work`, with `teacher.safetensors` and `tower.jsonl` beside it, unless it is there.

    Args:
        work: a folder.
        renders: photographs to train on.
        teacher_steps: of the optimiser, for the CNN.
        student_steps: of the optimiser, for the tower.
        seed: decides everything.

    Returns:
        The file.
    """
    work.mkdir(parents=True, exist_ok=True)
    log, target = work / "tower.jsonl", work / "tower.safetensors"
    if target.exists():
        return target
    torch.manual_seed(seed)
    data = render_set(renders, seed + 1, _BROAD)
    probe = {"clean": render_set(2000, seed + 2, (0, 0.5)), "catalogue": render_set(2000, seed + 3, (1, 1))}
    teacher = Teacher().to(memory_format=torch.channels_last)
    train(teacher, teacher_steps, 2e-3, data, probe=probe, log=log)
    teacher.eval()
    # The last batch norm takes over the scaling to tokens of unit deviation per channel, for the student to regress on.
    with torch.no_grad():
        sample = torch.cat([teacher(normalise(part)) for part in data[0][:4000].split(500)])
        mean, deviation = sample.mean((0, 1)), sample.std((0, 1))
        last = teacher.layers[-1][1]
        last.weight.div_(deviation)
        last.bias.sub_(mean).div_(deviation)
    student = Student()
    print("parity with the tower's own forward", student.parity(), flush=True)
    train(student, student_steps, 1.5e-3, data, probe=probe, log=log, teacher=teacher)
    student.eval()
    print("parity with the tower's own forward", student.parity(), flush=True)
    save_file(student.tower.state_dict(), target)
    return target


if __name__ == "__main__":
    import sys

    make_tower(Path(sys.argv[1]))

"""Train the embedded CLIP from nothing on pictures drawn here: `python -m pipeline.demo.training --out DIR`.

A ResNet of 64 px and a two-layer text transformer, built by open_clip, learn in about 2,400 steps to name objects and
to read words. Captions that occur twice in a batch share the target, and linear heads on the image embedding name
object, colour and words outright while the contrast is still blind; neither was ablated. The heads are thrown away:
what is saved is a plain open_clip state dict in fp16. The card, `embedded_clip/README.md`, has the full command.
"""

import argparse
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import open_clip
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from pipeline.demo.cache import Cache, draw_cache
from pipeline.demo.samples import Content, Kind, describe
from pipeline.demo.vocabulary import COLOURS, OBJECTS, WORDS

CONFIG = Path(__file__).parent / "embedded_clip" / "config.json"

MEAN = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
STD = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
PEAK_RATE = 1.5e-3

ABSENT = -100
"""Target of a head where the picture has no object."""

CURRICULUM = (
    (0.03, (0.42, 0.18, 0.27, 0.05, 0.08)),
    (0.15, (0.28, 0.28, 0.24, 0.14, 0.06)),
    (0.75, (0.14, 0.34, 0.24, 0.24, 0.04)),
    (1.00, (0.19, 0.39, 0.19, 0.19, 0.04)),
)
"""Up to which share of the steps a batch has which shares of the five kinds."""


class Batch(NamedTuple):
    """pixels (b, 3, SIDE, SIDE) float32, normalised; what they show, and a caption of each."""

    pixels: Tensor
    contents: list[Content]
    captions: list[str]


class Heads(nn.Module):
    """Linear heads on the image embedding: object, colour and the set of words. They serve training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.objects = nn.Linear(width, len(OBJECTS))
        self.colours = nn.Linear(width, len(COLOURS))
        self.words = nn.Linear(width, len(WORDS))

    def loss(self, embedding: Tensor, contents: list[Content]) -> Tensor:
        """Cross-entropy of object, colour (half weight) and words (one and a half), each over the rows that have it.

        Args:
            embedding: (b, width) unit vectors, of which some show objects and some words.
        """
        scaled = 10 * embedding
        names = [OBJECTS.index(content.thing.name) if content.thing else ABSENT for content in contents]
        colours = [[*COLOURS].index(content.thing.colour) if content.thing else ABSENT for content in contents]
        words = torch.zeros(len(contents), len(WORDS))
        for row, content in enumerate(contents):
            for word in content.words:
                words[row, WORDS.index(word)] = 1 / len(content.words)
        read = words.any(dim=1)
        return (
            functional.cross_entropy(self.objects(scaled), torch.tensor(names), ignore_index=ABSENT)
            + 0.5 * functional.cross_entropy(self.colours(scaled), torch.tensor(colours), ignore_index=ABSENT)
            + 1.5 * functional.cross_entropy(self.words(scaled[read]), words[read])
        )


def build_model() -> open_clip.CLIP:
    """An open_clip CLIP of the embedded configuration with fresh weights, fp32."""
    open_clip.add_model_config(CONFIG)
    return open_clip.create_model(CONFIG.stem)


def take_batch(cache: Cache, progress: float, size: int, rng: np.random.Generator) -> Batch:
    """Draw a batch from the cache by the curriculum, with fresh captions and one common shift of up to 2 px.

    Args:
        progress: the share of the steps that is done, in [0, 1).
    """
    shares = next(shares for until, shares in CURRICULUM if progress < until)
    counts = rng.multinomial(size, shares)
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(cache.kinds == kind), count) for kind, count in zip(Kind, counts, strict=True)]
    )
    contents = [cache.contents[row] for row in rows]
    shifted = np.roll(cache.pixels[rows], rng.integers(-2, 3, 2), axis=(1, 2))
    pixels = (torch.from_numpy(shifted).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    return Batch(pixels.contiguous(memory_format=torch.channels_last), contents, [describe(c, rng) for c in contents])


def multi_positive_loss(image: Tensor, text: Tensor, scale: Tensor, captions: list[str]) -> Tensor:
    """Symmetric contrastive loss in which rows with the same caption share the target mass equally.

    Args:
        image, text: (b, width) unit vectors of the same rows.
        scale: the logit scale, a positive scalar.
    """
    _, group = np.unique(captions, return_inverse=True)
    same = torch.from_numpy(group[:, None] == group[None, :]).float()
    target = same / same.sum(dim=1, keepdim=True)
    logits = scale * image @ text.T
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


class Trainer:
    """The model, its heads and its optimizer, a step at a time.

    Args:
        steps: length of the schedule: 150 steps of warm-up (or a tenth, if shorter), then a cosine to zero.
    """

    def __init__(self, steps: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.steps, self.seed, self.step = steps, seed, 0
        self.model = build_model()
        self.tokenize = open_clip.get_tokenizer(CONFIG.stem)
        self.heads = Heads(self.model.text_projection.shape[1])
        self.model.visual.to(memory_format=torch.channels_last)
        weights = [*self.model.parameters(), *self.heads.parameters()]
        groups = [
            {"params": [w for w in weights if w.ndim >= 2], "weight_decay": 0.05},
            {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)

    def learn(self, batch: Batch) -> float:
        """Take one step and return its contrastive loss in nats."""
        progress = self.step / self.steps
        warm_up = min(150, self.steps // 10 + 1)
        rate = PEAK_RATE * min((self.step + 1) / warm_up, (1 + math.cos(math.pi * progress)) / 2)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            image = self.model.encode_image(batch.pixels)
            text = self.model.encode_text(self.tokenize(batch.captions))
        image, text = (functional.normalize(features.float(), dim=-1) for features in (image, text))
        contrast = multi_positive_loss(image, text, self.model.logit_scale.exp(), batch.captions)
        loss = contrast + (1 - 0.7 * progress) * self.heads.loss(image, batch.contents)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 2.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(60))
        self.step += 1
        return contrast.item()

    def run(self, cache: Cache, batch_size: int) -> Iterator[float]:
        """Take every step that is left, each on a batch that depends on the seed and the step alone."""
        self.model.train()
        while self.step < self.steps:
            rng = np.random.default_rng((self.seed, self.step))
            yield self.learn(take_batch(cache, self.step / self.steps, batch_size, rng))

    def save_checkpoint(self, path: Path) -> None:
        """Write all that a resumed run needs, replacing the file in one go."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load_checkpoint(self, path: Path) -> None:
        """Continue where `save_checkpoint` left off."""
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def save_weights(self, path: Path) -> None:
        """Write the model alone as an open_clip state dict in fp16, safetensors."""
        state = {
            name: (weight.half() if weight.is_floating_point() else weight).contiguous()
            for name, weight in self.model.state_dict().items()
        }
        path.write_bytes(save(state))


def train(folder: Path, steps: int, cache_size: int, batch_size: int, seed: int) -> None:
    """Train, or continue the training begun in `folder`, and leave `model.safetensors` there.

    A checkpoint is written every 100 steps. The schedule counts steps, never time: a busy machine is only slower.
    """
    folder.mkdir(parents=True, exist_ok=True)
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    started = time.monotonic()
    cache = draw_cache(cache_size, seed, threads)
    print(f"drew {len(cache.pixels)} pictures in {time.monotonic() - started:.0f} s", flush=True)
    trainer, checkpoint = Trainer(steps, seed), folder / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_checkpoint(checkpoint)
    began = time.monotonic()
    for loss in trainer.run(cache, batch_size):
        if trainer.step % 20 == 0:
            pace = (time.monotonic() - began) / 20
            print(f"step {trainer.step} loss {loss:.3f} {pace:.2f} s/step", flush=True)
            began = time.monotonic()
        if trainer.step % 100 == 0:
            trainer.save_checkpoint(checkpoint)
            trainer.save_weights(folder / "model.safetensors")
    trainer.save_weights(folder / "model.safetensors")
    print(f"done in {(time.monotonic() - started) / 60:.1f} min", flush=True)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and of model.safetensors")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.pictures, arguments.batch, arguments.seed)


if __name__ == "__main__":
    main()

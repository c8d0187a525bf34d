"""CLIP embeddings and scores by open_clip: any built-in model and tag, a local checkpoint, or the embedded model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from pipeline.clip_model import (
    ClipError,
    load_model,
    resolve_device,
    resolve_model,
    resolve_precision,
    weights_digest,
)
from pipeline.config import ClipConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

MAX_CAPTION_CHARACTERS = 2048
MAX_RUN_CHARACTERS = 256
"""Byte-pair encoding takes quadratic time on an unbroken run; no caption of 77 tokens is that long."""

MAX_ASPECT = 16
"""Beyond it the resize to the shorter side would make a picture of unbounded length."""


@dataclass(frozen=True)
class ClipBatch:
    """Embeddings and scores of n samples.

    Attributes:
        image: (n, d) float32, unit rows.
        text: (n, d) float32, unit rows.
        score: (n,) float32, cosine of the two, not scaled.
        truncated: (n,) bool, the caption has more tokens than the model's context.
    """

    image: np.ndarray
    text: np.ndarray
    score: np.ndarray
    truncated: np.ndarray


class Clip:
    """A loaded CLIP model.

    Args:
        config: model, weights, precision and device; `auto` is resolved here.
        threads: CPU threads of torch in this process.

    Raises:
        ClipError: unknown model, weights out of reach, activation mismatch, or a precision or device that
            this machine lacks.
    """

    def __init__(self, config: ClipConfig, threads: int) -> None:
        torch.set_num_threads(threads)
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        name, pretrained = resolve_model(config)
        model = load_model(name, pretrained)
        self._weights = weights_digest(model)
        self._dtype = DTYPES[self.precision]
        self._model: Any = model.to(self.device, self._dtype).eval()
        self._name = name
        self._tokenizer = open_clip.get_tokenizer(name)
        self._context = self._tokenizer.context_length
        self._padding = int(self._tokenizer([""], self._context + 1)[0, -1])
        preprocess = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        # Steps on the PIL picture run one by one; the normalisation after them runs on the whole batch.
        self._spatial = image_transform_v2(preprocess, is_train=False).transforms[:-2]
        self._preprocess = preprocess
        shape = (1, 3, 1, 1)
        size = preprocess.size if isinstance(preprocess.size, int) else max(preprocess.size)
        self.least_side = size if config.reduced_decoding else None
        """Pixels along a side that an image keeps at least when it is decoded; None: all."""
        self._mean = torch.tensor(preprocess.mean, device=self.device).view(shape)
        self._std = torch.tensor(preprocess.std, device=self.device).view(shape)
        self.dim = int(self.embed_texts([""])[0].shape[1])

    def fields(self) -> dict[str, Any]:
        """What the embeddings depend on, for the fingerprint."""
        return {
            "model": self._name,
            "weights": self._weights,
            "precision": self.precision,
            "context_length": self._context,
            "preprocess": {
                "size": self._preprocess.size,
                "interpolation": self._preprocess.interpolation,
                "resize_mode": self._preprocess.resize_mode,
                "mean": list(self._preprocess.mean),
                "std": list(self._preprocess.std),
                **({"reduced_decoding": True} if self.least_side else {}),
            },
        }

    def __call__(self, images: Sequence[np.ndarray], captions: Sequence[str]) -> ClipBatch:
        """Embed and score n samples.

        Args:
            images: RGB uint8 arrays of shape (H, W, 3), any sizes.
            captions: the n captions.

        Raises:
            ClipError: the model gave an embedding that is not finite.
        """
        return self.embed([self.crop(image) for image in images], captions)

    def embed(self, crops: Sequence[np.ndarray], captions: Sequence[str]) -> ClipBatch:
        """As a call, of images that are cropped already."""
        image = self.embed_crops(crops)
        text, truncated = self.embed_texts(captions)
        return ClipBatch(image, text, np.einsum("nd,nd->n", image, text), truncated)

    @torch.inference_mode()
    def embed_crops(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """(n, d) float32 unit embeddings of what `crop` makes of images."""
        pixels = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2).float() / 255
        pixels = (pixels - self._mean) / self._std
        return self._unit(self._model.encode_image(pixels.to(self._dtype)))

    @torch.inference_mode()
    def embed_texts(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(n, d) float32 unit embeddings of captions, and (n,) bool: the caption was truncated."""
        texts = [bounded(caption) for caption in captions]
        # One token more than the context shows which captions are cut; the tokeniser does not say.
        tokens = self._tokenizer(texts, self._context + 1)
        truncated = (tokens[:, -1] != self._padding).numpy()
        tokens = tokens[:, : self._context]
        if truncated.any():
            cut = np.flatnonzero(truncated)
            tokens[cut] = self._tokenizer([texts[row] for row in cut], self._context)
        return self._unit(self._model.encode_text(tokens.to(self.device))), truncated

    def crop(self, image: np.ndarray) -> np.ndarray:
        """uint8 (side, side, 3) of an RGB image: open_clip's own validation transform, up to the tensor.

        Any number of threads may call it.
        """
        picture = Image.fromarray(image)
        if max(picture.size) > MAX_ASPECT * min(picture.size) and self._preprocess.resize_mode == "shortest":
            picture = _middle(picture)
        for step in self._spatial:
            picture = step(picture)
        return np.asarray(picture)

    @staticmethod
    def _unit(embeddings: torch.Tensor) -> np.ndarray:
        array = embeddings.float().cpu().numpy()
        norms = np.linalg.norm(array, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise ClipError("The CLIP model gave an embedding that is not finite; try clip.precision: fp32.")
        return np.asarray(array / norms, dtype=np.float32)


def bounded(caption: str) -> str:
    """The part of a caption that can reach the model: whitespace collapsed, then cut."""
    if len(caption) <= MAX_RUN_CHARACTERS:
        return caption
    words = (word[:MAX_RUN_CHARACTERS] for word in caption[: 8 * MAX_CAPTION_CHARACTERS].split())
    return " ".join(words)[:MAX_CAPTION_CHARACTERS]


def _middle(picture: Image.Image) -> Image.Image:
    """The middle of a very long picture: what the centre crop sees, with room for the resize kernel."""
    width, height = picture.size
    side = MAX_ASPECT * min(width, height)
    left, top = max(0, (width - side) // 2), max(0, (height - side) // 2)
    return picture.crop((left, top, min(width, left + side), min(height, top + side)))

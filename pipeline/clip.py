"""CLIP embeddings and scores by open_clip: any built-in model and tag, a local checkpoint, or the embedded model."""

import hashlib
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from huggingface_hub import constants, get_session
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from pipeline.config import ClipConfig

EMBEDDED = Path(__file__).parent / "demo" / "embedded_clip"
"""Folder of the embedded CLIP: config.json and model.safetensors."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

MAX_CAPTION_CHARACTERS = 2048
MAX_RUN_CHARACTERS = 256
"""Byte-pair encoding takes quadratic time on an unbroken run; no caption of 77 tokens is that long."""

MAX_ASPECT = 16
"""Beyond it the resize to the shorter side would make a picture of unbounded length."""

HUB_TIMEOUT = 5.0
"""Seconds after which the model hub counts as out of reach."""


class ClipError(RuntimeError):
    """The CLIP model cannot be used as configured; the message says why and what to do."""


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
        name, pretrained = _resolve_model(config)
        model = _load(name, pretrained)
        self._weights = _weights_digest(model)
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
        image = self.embed_images(images)
        text, truncated = self.embed_texts(captions)
        return ClipBatch(image, text, np.einsum("nd,nd->n", image, text), truncated)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(n, d) float32 unit embeddings of RGB uint8 arrays of shape (H, W, 3)."""
        crops = np.stack([self._crop(image) for image in images])
        pixels = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float() / 255
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

    def _crop(self, image: np.ndarray) -> np.ndarray:
        """open_clip's own validation transform up to, not including, the conversion to a tensor."""
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


def resolve_device(device: str) -> str:
    """`auto` becomes cuda where there is one, else cpu.

    Raises:
        ClipError: cuda is asked for and absent.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ClipError("clip.device is cuda, but torch sees no CUDA device here.")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """`auto` becomes fp16 on a GPU, bf16 on a CPU with bf16 instructions, else fp32.

    Raises:
        ClipError: the machine does not have the precision in hardware.
    """
    bf16 = _cpu_has_bf16() if device == "cpu" else torch.cuda.is_bf16_supported()
    if precision == "auto":
        if device == "cuda":
            return "fp16"
        return "bf16" if bf16 else "fp32"
    if precision == "fp16" and device == "cpu":
        raise ClipError("clip.precision fp16 needs a GPU; this process runs on the CPU.")
    if precision == "bf16" and not bf16:
        raise ClipError(
            "clip.precision is bf16 (as the run resolved it, if the config says auto), "
            "and this machine has no bf16 instructions."
        )
    return precision


def _cpu_has_bf16() -> bool:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def _resolve_model(config: ClipConfig) -> tuple[str, str]:
    """open_clip's name of the model, and its tag or checkpoint path."""
    if config.model == "embedded":
        return _register(EMBEDDED / "config.json", "parrotscope-embedded"), str(EMBEDDED / "model.safetensors")
    name = config.model
    if config.model_config_file:
        name = _register(Path(config.model_config_file), config.model)
    if open_clip.get_model_config(name) is None:
        raise ClipError(
            f"open_clip knows no model {name!r}; see open_clip.list_models(), "
            "or give a model config in clip.model_config_file."
        )
    if not config.pretrained:
        raise ClipError(f"clip.pretrained is empty: name a tag of {name} or the path of a checkpoint.")
    if os.path.isfile(config.pretrained):
        return name, config.pretrained
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = open_clip.get_pretrained_cfg(name, config.pretrained)
    if not tag:
        raise ClipError(
            f"clip.pretrained {config.pretrained!r} is neither a file nor a tag of {name} "
            f"(tags: {', '.join(tags) or 'none'})."
        )
    model_gelu = bool(open_clip.get_model_config(name).get("quick_gelu", False))
    if bool(tag.get("quick_gelu", False)) != model_gelu:
        other = name.removesuffix("-quickgelu") if model_gelu else f"{name}-quickgelu"
        raise ClipError(
            f"{name} and its tag {config.pretrained!r} differ in QuickGELU: the weights would run with the "
            f"wrong activation. Use clip.model: {other}."
        )
    return name, config.pretrained


def _register(config_file: Path, name: str) -> str:
    """Make an open_clip model config known under a name of its own."""
    if not config_file.is_file():
        raise ClipError(f"The open_clip model config {config_file} is not there.")
    open_clip.add_model_config(config_file)
    registered = config_file.stem
    configs = open_clip.factory._MODEL_CONFIGS
    if registered not in configs:
        raise ClipError(f"{config_file} is no open_clip model config (embed_dim, vision_cfg, text_cfg).")
    configs[name] = configs[registered]
    return name


def _load(name: str, pretrained: str) -> torch.nn.Module:
    """The model in float32 on the CPU; in seconds a clear error where its weights are out of reach."""
    tag = not os.path.isfile(pretrained)
    if tag and not _hub_in_reach():
        # Cached weights still load; without this a missing file costs a minute of retries.
        constants.HF_HUB_OFFLINE = True
    # open_clip logs on the root logger what the error below says better.
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model: torch.nn.Module = open_clip.create_model(
                name, pretrained, precision="fp32", device="cpu", weights_only=True
            )
            return model
    except Exception as error:
        if tag:
            raise ClipError(
                f"The weights of {name}, tag {pretrained!r}, are not in {constants.HF_HUB_CACHE} and cannot be "
                "fetched from the model hub. Fetch them where there is a network, and copy that folder or "
                "pass the checkpoint's path as clip.pretrained."
            ) from error
        raise ClipError(f"{pretrained} is no checkpoint of {name}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


def _hub_in_reach() -> bool:
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
    except Exception:  # noqa: BLE001 - whatever the network's reason, the answer is no
        return False
    return True


def _weights_digest(model: torch.nn.Module) -> str:
    """128-bit blake2b of all parameters and buffers, in float32 as loaded: the same for a tag and its file."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        hasher.update(f"{name} {tuple(tensor.shape)}".encode())
        hasher.update(tensor.contiguous().numpy().tobytes())
    return hasher.hexdigest()


def _middle(picture: Image.Image) -> Image.Image:
    """The middle of a very long picture: what the centre crop sees, with room for the resize kernel."""
    width, height = picture.size
    side = MAX_ASPECT * min(width, height)
    left, top = max(0, (width - side) // 2), max(0, (height - side) // 2)
    return picture.crop((left, top, min(width, left + side), min(height, top + side)))

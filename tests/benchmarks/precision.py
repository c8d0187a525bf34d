"""What bf16 costs: CLIP scores against fp32, and spotted words against fp32."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import openvino

from pipeline.clip import Clip
from pipeline.clip_model import resolve_precision
from pipeline.config import ClipConfig
from pipeline.spotting import Image, load_spotter
from pipeline.spotting.config import RapidOCRConfig
from pipeline.spotting.openvino_models import resolve_precision as resolve_spotter_precision
from tests.benchmarks.figure import Figure

BATCH = 64


def measure(images: Sequence[Image], captions: Sequence[str], source: str, threads: int) -> Iterator[Figure]:
    """Errors of the embedded CLIP's scores and agreement of the default spotter's words on the given samples."""
    if resolve_precision("auto", "cpu") == "bf16":
        exact, rounded = (_scores(images, captions, precision, threads) for precision in ("fp32", "bf16"))
        errors = np.abs(exact - rounded)
        yield Figure(
            f"CLIP score at bf16, {len(images):,} {source}",
            f"error {errors.mean():.4f} in the mean, {np.quantile(errors, 0.99):.4f} at 99 %, {errors.max():.4f} worst",
            f"{errors.mean() / exact.std():.3f} of the scores' standard deviation (embedded CLIP)",
        )
    fast = resolve_spotter_precision("auto", openvino.Core())
    if fast != "fp32":
        fp32, less = (_words(images, precision, threads) for precision in ("fp32", fast))
        shared = sum((one & other).total() for one, other in zip(fp32, less, strict=True))
        total = sum(one.total() + other.total() for one, other in zip(fp32, less, strict=True))
        same_class = sum(bool(one) == bool(other) for one, other in zip(fp32, less, strict=True)) / len(fp32)
        yield Figure(
            f"default spotter at {fast}, {len(images):,} {source}",
            f"{2 * shared / total:.2%} of the words as at fp32 (F1)",
            f"{same_class:.2%} of the images keep text or no text",
        )


def _scores(images: Sequence[Image], captions: Sequence[str], precision: str, threads: int) -> np.ndarray:
    config = ClipConfig.model_validate({"model": "embedded", "pretrained": None, "precision": precision})
    clip = Clip(config, threads)
    starts = range(0, len(images), BATCH)
    return np.concatenate([clip(images[at : at + BATCH], captions[at : at + BATCH]).score for at in starts])


def _words(images: Sequence[Image], precision: str, threads: int) -> list[Counter[str]]:
    spotter = load_spotter(RapidOCRConfig.model_validate({"precision": precision}), threads, "cpu")
    return [Counter(word.text for word in spotting.words) for spotting in spotter.spot(images)]

"""Caption against spotted words: ours beside the plain-Python way, on the same drawn samples."""

import random
import re
import string
from collections.abc import Iterator

import pyarrow as pa

from pipeline import schema
from pipeline.config import OverlapSettings
from pipeline.overlap import overlap
from tests.benchmarks.figure import Figure, paired

NAIVE_SAMPLES = 300
SAMPLES = 20_000


def measure() -> Iterator[Figure]:
    """Samples per second of either, after a check that their rates are the same."""
    settings = OverlapSettings()
    captions, texts = draw(SAMPLES)
    samples, spotted = tables(captions, texts)
    small = [table.slice(0, NAIVE_SAMPLES) for table in (samples, spotted)]
    pairs = list(zip(captions[:NAIVE_SAMPLES], texts[:NAIVE_SAMPLES], strict=True))

    def naive() -> list[float]:
        return [naive_fuzzy_cotr(caption, words, settings) for caption, words in pairs]

    ours_small = overlap(*small, settings)["fuzzy_cotr"].to_pylist()
    if any(abs(one - other) > 1e-6 for one, other in zip(naive(), ours_small, strict=True)):
        raise AssertionError("the plain-Python overlap gives other rates")
    naive_seconds, ours_seconds = paired(naive, lambda: overlap(samples, spotted, settings), rounds=3)
    slow, fast = NAIVE_SAMPLES / naive_seconds, SAMPLES / ours_seconds
    yield Figure(
        "overlap of captions and spotted words, areas included, one core",
        f"{fast:,.0f} samples/s",
        f"{fast / slow:.0f} times the plain-Python way to the fuzzy rate alone",
    )


def draw(count: int) -> tuple[list[str], list[list[str]]]:
    """Captions of some ten words, and the words in their images: some copied, some misread, some others."""
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 10))) for _ in range(5000)]
    captions, texts = [], []
    for _ in range(count):
        words = rng.choices(vocabulary, k=rng.randint(3, 18))
        shown = rng.choices(vocabulary, k=rng.randint(0, 12))
        for word in rng.sample(words, k=rng.randint(0, 2)):
            at = rng.randrange(len(word))
            misread = word[:at] + rng.choice(string.ascii_lowercase) + word[at + 1 :]
            shown.append(rng.choice([word, misread]))
        captions.append(" ".join(words))
        texts.append(shown)
    return captions, texts


def tables(captions: list[str], texts: list[list[str]]) -> tuple[pa.Table, pa.Table]:
    """Samples and spotted text as `overlap` takes them."""

    def box(line: int) -> list[dict[str, int]]:
        return [{"x": x, "y": 20 * line + y} for x, y in ((10, 0), (90, 0), (90, 15), (10, 15))]

    def table(columns: tuple[schema.Column, ...], rows: list[dict[str, object]]) -> pa.Table:
        fields = [field for field in schema.arrow(columns) if field.name in rows[0]]
        return pa.Table.from_pylist(rows, schema=pa.schema(fields))

    samples: list[dict[str, object]] = [
        {"shard": "s", "index": i, "caption": caption, "width": 100, "height": 400}
        for i, caption in enumerate(captions)
    ]
    spotted: list[dict[str, object]] = [
        {
            "shard": "s",
            "index": i,
            "spot_status": "ok",
            "spotted": [{"text": text, "confidence": 0.9, "polygon": box(i)} for i, text in enumerate(shown)],
        }
        for i, shown in enumerate(texts)
    ]
    return table(schema.SAMPLES, samples), table(schema.SPOTTED_TEXT, spotted)


def naive_fuzzy_cotr(caption: str, texts: list[str], settings: OverlapSettings) -> float:
    """Fuzzy CoTR as one would write it first: every caption word against every spotted word."""
    words = set(re.findall(r"\w+", caption.lower()))
    spotted = {word for text in texts for word in re.findall(r"\w+", text.lower())}
    found = sum(any(_counts(word, other, settings) for other in spotted) for word in words)
    return found / len(words) if words else 0.0


def _counts(word: str, other: str, settings: OverlapSettings) -> bool:
    if word == other:
        return True
    if min(len(word), len(other)) < settings.min_fuzzy_length:
        return False
    return 1 - distance(word, other) / max(len(word), len(other)) >= settings.threshold


def distance(one: str, other: str) -> int:
    """Levenshtein distance, row by row."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]

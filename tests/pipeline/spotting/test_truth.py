"""Recall and precision of spotters on words that a person read (../shared/data/truth)."""

import json
import re
import shutil
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest

from pipeline.images import decode
from pipeline.schema import SpotStatus
from pipeline.spotting import Image, load_spotter
from pipeline.spotting.config import RapidOCRConfig, SpotterConfig, TesseractConfig


def tokens(words: Iterable[str]) -> Counter[str]:
    """Case-folded words without punctuation, as a multiset."""
    folded = unicodedata.normalize("NFKC", " ".join(words)).casefold()
    return Counter(re.findall(r"[^\W_]+", folded))


def truth(data: Path) -> Iterator[tuple[dict[str, Any], Image]]:
    """Transcribed samples and their images; dense pages are not transcribed."""
    rows = [json.loads(line) for line in (data / "truth" / "truth.jsonl").read_text().splitlines()]
    for shard in sorted({row["shard"] for row in rows}):
        wanted = {row["key"]: row for row in rows if row["shard"] == shard and row["kind"] != "dense"}
        with tarfile.open(data / "real" / shard) as archive:
            for member in archive:
                name = PurePath(member.name)
                if name.stem in wanted and name.suffix not in (".txt", ".json"):
                    file = archive.extractfile(member)
                    assert file is not None
                    yield wanted[name.stem], decode(file.read(), 1 << 26, 1 << 15).pixels


@pytest.mark.parametrize(
    ("config", "least_recall", "least_precision"),
    [
        (RapidOCRConfig(), 0.90, 0.91),
        pytest.param(
            *(TesseractConfig(), 0.68, 0.91),
            marks=pytest.mark.skipif(shutil.which("tesseract") is None, reason="Tesseract is not installed"),
        ),
    ],
    ids=["rapidocr", "tesseract"],
)
def test_recall_and_precision_on_real_images(
    shared_data: Path, config: SpotterConfig, least_recall: float, least_precision: float
):
    rows, images = zip(*truth(shared_data), strict=True)
    assert len(images) > 100
    spottings = load_spotter(config, threads=2, device="cpu").spot(images)
    found = written = spotted = 0
    for row, spotting in zip(rows, spottings, strict=True):
        assert spotting.status is SpotStatus.OK
        expected, read = tokens(row["words"]), tokens(word.text for word in spotting.words)
        hits = expected & read
        found += hits.total()
        written += expected.total()
        spotted += (hits + ((read - hits) - tokens(row["unsure"]))).total()  # an unsure word counts neither way
    recall, precision = found / written, found / spotted
    rates = f"recall {recall:.3f}, precision {precision:.3f}"
    print(f"{config.engine}: {rates}: {found} of {written} words, {spotted} spotted")
    assert recall >= least_recall
    assert precision >= least_precision


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["Don't", "STOP!"], {"don": 1, "t": 1, "stop": 1}),
        (["ＡＢＣ", "a_b"], {"abc": 1, "a": 1, "b": 1}),
        (["the", "The", "—"], {"the": 2}),
    ],
)
def test_tokens(words: list[str], expected: dict[str, int]):
    assert tokens(words) == expected

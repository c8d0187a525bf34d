"""Words that a person read in real images (../shared/data/truth), and how well a spotter's words match them."""

import json
import re
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pipeline.images import decode
from pipeline.spotting import Image


@dataclass(frozen=True)
class Score:
    """Words of one image, or of several."""

    found: int
    """Written words that were spotted."""
    written: int
    spotted: int
    """Spotted words that are right or wrong: one that the person was unsure of counts neither way."""


def tokens(words: Iterable[str]) -> Counter[str]:
    """Case-folded words without punctuation, as a multiset."""
    folded = unicodedata.normalize("NFKC", " ".join(words)).casefold()
    return Counter(re.findall(r"[^\W_]+", folded))


def score(row: dict[str, Any], words: Iterable[str]) -> Score:
    """Compare `words` with what the person wrote down in `row`."""
    expected, read = tokens(row["words"]), tokens(words)
    hits = expected & read
    wrong = (read - hits) - tokens(row["unsure"])
    return Score(hits.total(), expected.total(), hits.total() + wrong.total())


def truth(data: Path, dense: bool = False) -> Iterator[tuple[dict[str, Any], Image]]:
    """Samples and their images; dense pages are not transcribed, and come only where they are asked for."""
    rows = [json.loads(line) for line in (data / "truth" / "truth.jsonl").read_text().splitlines()]
    for shard in sorted({row["shard"] for row in rows}):
        wanted = {row["key"]: row for row in rows if row["shard"] == shard and (dense or row["kind"] != "dense")}
        with tarfile.open(data / "real" / shard) as archive:
            for member in archive:
                name = PurePath(member.name)
                if name.stem in wanted and name.suffix not in (".txt", ".json"):
                    file = archive.extractfile(member)
                    assert file is not None
                    yield wanted[name.stem], decode(file.read(), 1 << 26, 1 << 15).pixels

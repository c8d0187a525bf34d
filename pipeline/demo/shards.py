"""Draw demo shards with their truth beside them: `python -m pipeline.demo.shards FOLDER`.

The shards are webdataset tars as img2dataset writes them. Beside them lie `truth.parquet`, one row per sound sample
with the words in its picture and the rates that must come out, and `hostile.json`, which names every sample that
must be rejected and why. The same seed gives the same bytes.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from pipeline import schema
from pipeline.demo.drawing import Picture, draw_picture
from pipeline.demo.encoding import EXTENSIONS, encode
from pipeline.demo.hostile import Members, hostile_samples
from pipeline.demo.stories import ODD_STORIES, STORIES, Story, tell
from pipeline.schema import RejectReason, SpotStatus

FORMS = {"jpeg": 0.7, "png": 0.12, "webp": 0.15, "misnamed_png": 0.03}
"""Form of an image file → its share of the samples; the forms missing here come once in every shard."""

SIZES = ((512, 384), (384, 512), (448, 448), (480, 320), (320, 480), (320, 320), (360, 270), (256, 256))
"""Widths and heights of the pictures in pixels."""

DRAWN_WORD = pa.struct([("text", pa.string()), ("polygon", pa.list_(schema.POINT))])

TRUTH = pa.schema(
    [
        pa.field("file", pa.string(), metadata={"meaning": "file name of the shard"}),
        pa.field("key", pa.string()),
        pa.field("story", pa.string(), metadata={"meaning": "how caption and picture were made to relate"}),
        pa.field("caption", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("words", pa.list_(DRAWN_WORD), metadata={"meaning": "words as drawn, from top to bottom"}),
        pa.field("spot_status", pa.string(), metadata={"meaning": "ok: the truth never fails"}),
        pa.field("text_class", pa.string()),
        pa.field("cotr", pa.float32()),
        pa.field("cotr_literal", pa.float32()),
        pa.field("fuzzy_cotr", pa.float32()),
        pa.field("co_emb_words", pa.list_(pa.string())),
        pa.field("caption_words", pa.list_(pa.string())),
        pa.field("caption_wordless", pa.bool_()),
        pa.field("caption_unspaced", pa.bool_()),
        pa.field("text_unspaced", pa.bool_()),
    ]
)
"""Columns of truth.parquet; what bears a name of `pipeline.schema` means what it means there, so that Table 1 can be
made of the truth as of a run."""


@dataclass(frozen=True)
class DemoTruth:
    """Where the demo lies and how much of it there is."""

    shards: tuple[Path, ...]
    truth: Path
    hostile: Path
    sound_samples: int
    hostile_samples: int


@dataclass(frozen=True)
class _Drawn:
    """One sample of a shard: its members, and either the row of its truth or the reason of its rejection."""

    key: str
    members: Members
    truth: dict[str, Any] | None = None
    reason: RejectReason | None = None


def _metadata(story: Story, key: str, picture: Picture, image: bytes, rng: np.random.Generator) -> bytes:
    """The json that img2dataset writes for a sample of LAION-2B; every other sample has DataComp's uid too."""
    height, width = picture.pixels.shape[:2]
    values = {
        "SAMPLE_ID": int(rng.integers(10**12)),
        "url": f"https://pictures.example/{key}.jpg",
        "caption": story.caption,
        "key": key,
        "status": "success",
        "error_message": None,
        "width": width,
        "height": height,
        "original_width": 2 * width,
        "original_height": 2 * height,
        "LICENSE": "?",
        "NSFW": "UNLIKELY",
        "similarity": round(float(rng.uniform(0.28, 0.42)), 6),
        "sha256": hashlib.sha256(image).hexdigest(),
    }
    if int(key) % 2:
        values["uid"] = rng.bytes(16).hex()
    return json.dumps(values).encode()


def _draw_sample(file: str, key: str, story: Story, form: str, rng: np.random.Generator) -> _Drawn:
    """Draw a story and write down what must be found in it."""
    width, height = SIZES[rng.integers(len(SIZES))]
    picture = draw_picture(width, height, story.thing, story.texts, rng, story.scene)
    image = encode(picture.pixels, form)
    members = {
        EXTENSIONS[form]: image,
        "txt": story.caption.encode(),
        "json": _metadata(story, key, picture, image, rng),
    }
    truth = {
        "file": file,
        "key": key,
        "story": story.name,
        "caption": story.caption,
        "width": width,
        "height": height,
        "words": [
            {"text": word.text, "polygon": [{"x": x, "y": y} for x, y in word.polygon.tolist()]}
            for word in picture.words
        ],
        "spot_status": SpotStatus.OK,
        "text_class": story.text_class,
        "cotr": story.cotr,
        "cotr_literal": story.cotr_literal,
        "fuzzy_cotr": story.fuzzy_cotr,
        "co_emb_words": story.drawn_words,
        "caption_words": story.caption_words,
        "caption_wordless": not story.caption_words,
        "caption_unspaced": story.unspaced,
        "text_unspaced": False,
    }
    return _Drawn(key, members, truth)


def _plan(count: int, odd: Sequence[Story], rng: np.random.Generator) -> Iterator[tuple[Story, str]]:
    """The stories of a shard in a random order, each with the form of its image file."""
    names = rng.choice([*STORIES], count - len(odd), p=[*STORIES.values()])
    stories = [*odd, *(tell(str(name), rng) for name in names)]
    rare = [form for form in EXTENSIONS if form not in FORMS]
    forms = [*rng.choice([*FORMS], count - len(rare), p=[*FORMS.values()]), *rare]
    for place in rng.permutation(count):
        yield stories[place], str(forms[place])


def _draw_shard(number: int, shards: int, samples: int, seed: int) -> Iterator[_Drawn]:
    """Every sample of one shard in the order of the tar, sound and hostile ones mixed."""
    rng = np.random.default_rng((seed, number))
    file = shard_name(number)
    keys = (f"{number:05d}{place:04d}" for place in range(10_000))
    sound = [
        _draw_sample(file, next(keys), story, form, rng)
        for story, form in _plan(samples, ODD_STORIES[number::shards], rng)
    ]
    model = next(sample for sample in sound if {*sample.members} == {"jpg", "txt", "json"})
    placed = [(float(place), sample) for place, sample in enumerate(sound)]
    for reason, members in [*hostile_samples(model.members)][number::shards]:
        place = rng.uniform(0, samples)
        key = model.key if reason is RejectReason.DUPLICATE_KEY else next(keys)
        if reason is RejectReason.DUPLICATE_KEY:
            place = float(samples)  # the one to be kept comes first
        placed.append((place, _Drawn(key, members, reason=reason)))
    yield from (sample for _, sample in sorted(placed, key=lambda entry: entry[0]))


def shard_name(number: int) -> str:
    """File name of a shard, as img2dataset counts them."""
    return f"{number:05d}.tar"


def draw_demo(folder: Path, shards: int = 4, samples_per_shard: int = 125, seed: int = 0) -> DemoTruth:
    """Draw the demo into a folder.

    Args:
        folder: created if it does not exist; files of the same names are replaced.
        samples_per_shard: sound samples of each shard, 12 at least; the hostile ones come on top.

    Raises:
        ValueError: too few samples to hold the odd captions.
    """
    if samples_per_shard < len(ODD_STORIES):
        raise ValueError(f"a demo shard has at least {len(ODD_STORIES)} samples, not {samples_per_shard}")
    folder.mkdir(parents=True, exist_ok=True)
    truth: list[dict[str, Any]] = []
    hostile: list[dict[str, str]] = []
    files = tuple(folder / shard_name(number) for number in range(shards))
    for number, file in enumerate(files):
        with file.open("wb") as stream, webdataset.TarWriter(stream, encoder=False, mtime=0) as tar:
            for sample in _draw_shard(number, shards, samples_per_shard, seed):
                tar.write({"__key__": sample.key, **sample.members})
                if sample.truth is not None:
                    truth.append(sample.truth)
                if sample.reason is not None:
                    hostile.append({"file": file.name, "key": sample.key, "reason": sample.reason})
    pq.write_table(pa.Table.from_pylist(truth, TRUTH), folder / "truth.parquet")
    (folder / "hostile.json").write_text(json.dumps(hostile, indent=1) + "\n")
    return DemoTruth(files, folder / "truth.parquet", folder / "hostile.json", len(truth), len(hostile))


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--samples", type=int, default=125, help="sound samples of each shard")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    demo = draw_demo(arguments.folder, arguments.shards, arguments.samples, arguments.seed)
    print(f"{demo.sound_samples} sound and {demo.hostile_samples} hostile samples in {arguments.folder}")


if __name__ == "__main__":
    main()

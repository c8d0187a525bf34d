"""A run whose every text tries to become markup: captions, words, names, messages, settings, versions, metadata."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from pipeline import schema
from pipeline.run import Run
from pipeline.shards import list_shards
from tests.pipeline.runs import FAILED, profile, word, write_run
from tests.pipeline.shard_factory import offsets, samples, tar

TEXTS = (
    "<script>window.pwned = 1; alert(1)</script>",
    '<img src=x onerror="window.pwned = 1; alert(1)">',
    "\"><svg onload='window.pwned = 1'>",
    "' autofocus onfocus='window.pwned = 1' x='",
    "</title></style></pre></table><script>window.pwned = 1</script>",
    "<!-- <iframe src='https://example.invalid/'></iframe>",
    "&lt;b&gt; &amp; ]]> {{ 7 * 7 }} {% raw %} <b>bold</b>",
    '<link rel=stylesheet href="https://example.invalid/x.css"><a href="javascript:window.pwned=1">x</a>',
    "\u202edesrever\u2066 \x1b[31m \x00 \u061c",
)
HARMLESS = tuple(f"text {number}" for number in range(len(TEXTS)))


def write_hostile_run(folder: Path, texts: Sequence[str]) -> Run:
    """A run with a sample for each text, and three more: a caption with a marked word, an empty one
    of an image that a gate skipped, a failed one."""
    count = len(texts) + 3
    name = "".join(character for character in texts[1] if character not in "/\0")
    archive = tar(samples(count))
    (folder / f"{name}.tar").write_bytes(archive)
    (shard,) = list_shards([f"{folder}/*.tar"])
    images = offsets(archive)
    parrot = {"text_class": "co_emb", "co_emb_words": ["sale"], "caption_words": ["big", "sale"]}
    parrot |= {"word_similarity": [0.0, 1.0], "cotr": 0.5, "fuzzy_cotr": 0.5, "spotted_co_emb": [True]}
    changes = [
        *(
            {"caption": text, "text_class": "text", "spotted": [word(text)], "spotted_co_emb": [False]}
            for text in texts
        ),
        {"caption": f"Big {texts[0]} SALE", "spotted": [word("SALE", 1, 2)], **parrot},
        {"caption": "", "spot_status": "skipped"},
        {"caption": texts[0], **FAILED, "spot_message": texts[0]},
    ]
    rows = []
    for index, changed in enumerate(changes):
        image = images[f"{index:09d}.jpg"]
        place = {"image_offset": image.offset_data, "image_size": image.size, "spotted_area": [0.25]}
        row = profile(shard.id, index, clip_score=0.3, cluster_id=index % 2, cluster_distance=0.1)
        row |= place | changed
        if not row["spotted"]:
            row["spotted_area"] = row["spotted"]
        rows.append(row | {"key": texts[0], "url": texts[7], "NSFW": texts[0]})
    rejects = [
        {"shard": shard.id, "index": 20 + number, "key": text, "reason": "bad_json", "message": text, "offset": 0}
        for number, text in enumerate(texts[:2])
    ]
    rejects.append(
        {"shard": shard.id, "index": None, "key": None, "reason": texts[0], "message": texts[0], "offset": 0}
    )
    columns = (*schema.PROFILES, *schema.metadata_columns({"NSFW": "string"}))
    run = write_run(f"{folder}/{name} run", rows, rejects, [shard], columns=columns)
    settings = {"api_key": "hunter2", "x": texts[1]}
    values = {
        "run": texts[1],
        "input": {"shards": [*texts[:6], "s3://u:hunter2@host/x.tar"], "metadata": {texts[0]: "string"}},
        "spotting": {"engine": "custom", "target": "a:B", "settings": settings},
        "software": {texts[0]: texts[1]},
    }
    run.write_bytes(yaml.safe_dump(values).encode(), "run.yaml")
    return run

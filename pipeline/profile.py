"""Profile: join samples, embeddings and spotted text of a shard into one row per sample. It opens no image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.clustering import ClusterModel
from pipeline.config import Config
from pipeline.extract import Stages, embeddings_of, spotted_of
from pipeline.fingerprint import Fields, digest
from pipeline.overlap import overlap
from pipeline.run import SAMPLES, Dataset, Run, RunError, part_facts
from pipeline.shards import Shard

KEYS = [column.name for column in schema.IDENTITY]


def profiles_of(config: Config) -> Dataset:
    return Dataset("profiles", config.profile.name)


def profile_fields(config: Config, inputs: Mapping[str, str]) -> Fields:
    """What the profiles depend on: overlap settings and the fingerprints of the inputs by name."""
    return {"schema_version": schema.VERSION, "overlap": config.overlap.model_dump(), **inputs}


def profile_shard(
    run: Run, shard: Shard, config: Config, clusters: ClusterModel, fields: Fields
) -> dict[str, int]:
    """Write the profiles part of a shard from its samples, embeddings and spotted text; returns the counts.

    Raises:
        RunError: the parts of the shard are not of the same samples, or one is damaged.
    """
    stages = Stages()
    columns = (*schema.PROFILES, *schema.metadata_columns(config.input.metadata))
    dataset = profiles_of(config)
    rows = failed = 0
    with run.part(dataset, shard.id, columns) as part:
        for samples, embeddings, spotted in zip(
            run.read_batches(SAMPLES, shard.id),
            run.read_batches(
                embeddings_of(config), shard.id, [*KEYS, "clip_score", "caption_truncated", "image_embedding"]
            ),
            run.read_batches(spotted_of(config), shard.id),
            strict=True,
        ):
            _check_aligned(shard, samples, embeddings, spotted)
            with stages.time("overlap"):
                rates = overlap(samples, spotted, config.overlap)
            with stages.time("assign"):
                ids, distances = clusters.assign(_matrix(embeddings["image_embedding"]))
            found: dict[str, Any] = {name: samples[name] for name in samples.column_names}
            for table in (embeddings, spotted, rates):
                found |= {name: table[name] for name in table.column_names if name not in found}
            found["cluster_id"], found["cluster_distance"] = pa.array(ids), pa.array(distances)
            part.write(pa.table({column.name: found[column.name] for column in columns}))
            rows += samples.num_rows
            failed += spotted["spot_message"].length() - spotted["spot_message"].null_count
        counts = {"rows": rows, "spot_failed": failed}
        part.describe(part_facts(dataset, shard, digest(fields), counts, stages.seconds))
    return counts


def _check_aligned(shard: Shard, samples: pa.Table, *others: pa.Table) -> None:
    for table in others:
        if not table["index"].equals(samples["index"]) or not table["uid"].equals(samples["uid"]):
            raise RunError(f"Shard {shard.id}: its parts hold different samples; extract it again.")


def _matrix(vectors: pa.ChunkedArray) -> np.ndarray:
    """Fixed-size lists as a (n, d) float32 array."""
    array = vectors.combine_chunks()
    return np.asarray(array.flatten()).reshape(len(array), -1).astype(np.float32)

"""Profile: join samples, embeddings and spotted text of a shard into one row per sample. It opens no image."""

from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.claims import claim, input_digest
from pipeline.clustering import ClusterModel
from pipeline.clusters import cluster_fields
from pipeline.config import Config
from pipeline.datasets import CLUSTER_FACTS, SAMPLES, clusters_of, embeddings_of, profiles_of, spotted_of
from pipeline.fingerprint import Fields, digest
from pipeline.overlap import overlap
from pipeline.parts import part_facts
from pipeline.run import Run, RunError
from pipeline.shards import Shard
from pipeline.stages import Stages

KEYS = [column.name for column in schema.IDENTITY]
EMBEDDING_COLUMNS = [*KEYS, schema.CLIP_SCORE.name, schema.CAPTION_TRUNCATED.name, schema.IMAGE_EMBEDDING]


def profile_fields(run: Run, config: Config) -> Fields:
    """What the profiles depend on: overlap settings and the fingerprints of their inputs.

    Raises:
        RunError: an input is not there yet.
        FingerprintError: an input was made by another configuration.
    """
    inputs = (SAMPLES, embeddings_of(config), spotted_of(config))
    digests = {dataset.kind: input_digest(run, config, dataset) for dataset in inputs}
    facts = run.read_json(clusters_of(config), CLUSTER_FACTS)
    if facts is None:
        raise RunError(f"{run.url} has no {clusters_of(config)} yet: cluster first.")
    fields = cluster_fields(run, config)
    # Centroids of another model's embeddings would be compared with these without an error.
    claim(run, config, clusters_of(config), fields)
    # They depend on the shards they saw as well as on their settings.
    digests["clusters"] = digest({**fields, "shards": facts["shards_digest"]})
    return {"schema_version": schema.VERSION, "overlap": config.overlap.model_dump(), **digests}


def profile_shard(run: Run, shard: Shard, config: Config, clusters: ClusterModel, fields: Fields) -> dict[str, int]:
    """Write the profiles part of a shard from its samples, embeddings and spotted text; returns the counts.

    Raises:
        RunError: the parts of the shard are not of the same samples, or one is damaged.
    """
    stages = Stages()
    columns = (*schema.PROFILES, *schema.metadata_columns(config.input.metadata))
    dataset = profiles_of(config)
    rows = failed = 0
    for source in (SAMPLES, embeddings_of(config), spotted_of(config)):
        if run.footer(source, shard.id).get("fingerprint") != fields[source.kind]:
            raise RunError(
                f"{run.part_path(source, shard.id)} was made under other settings than {source}; remove it and "
                "extract it again."
            )
    with run.part(dataset, shard.id, columns) as part:
        for samples, embeddings, spotted in zip_longest(
            run.read_batches(SAMPLES, shard.id),
            run.read_batches(embeddings_of(config), shard.id, EMBEDDING_COLUMNS),
            run.read_batches(spotted_of(config), shard.id),
        ):
            _check_aligned(shard, samples, embeddings, spotted)
            with stages.time("overlap"):
                rates = overlap(samples, spotted, config.overlap)
            with stages.time("assign"):
                ids, distances = clusters.assign(_matrix(embeddings[schema.IMAGE_EMBEDDING]))
            found: dict[str, Any] = {name: samples[name] for name in samples.column_names}
            for table in (embeddings, spotted, rates):
                found |= {name: table[name] for name in table.column_names if name not in found}
            found["cluster_id"], found["cluster_distance"] = pa.array(ids), pa.array(distances)
            part.write(pa.table({column.name: found[column.name] for column in columns}))
            rows += samples.num_rows
            failed += spotted[schema.SPOTTED.name].null_count
        counts = {"rows": rows, "spot_failed": failed}
        part.describe(part_facts(dataset, shard, digest(fields), counts, stages.seconds))
    return counts


def _check_aligned(shard: Shard, *tables: pa.Table | None) -> None:
    """All batches are there, and their rows are of the same samples."""
    keys = [table and table.select(KEYS) for table in tables]
    if not all(key is not None and key.equals(keys[0]) for key in keys):
        raise RunError(f"Shard {shard.id}: its parts hold different samples; remove them and extract it again.")


def _matrix(vectors: pa.ChunkedArray) -> np.ndarray:
    """Fixed-size lists as a (n, d) float32 array."""
    array = vectors.combine_chunks()
    return np.asarray(array.flatten()).reshape(len(array), -1).astype(np.float32)

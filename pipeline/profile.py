"""Profile: join samples, embeddings and spotted text of a shard into one row per sample. It opens no image."""

from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.claims import check_part, claim, claimed, input_digest
from pipeline.clustering import ClusterModel
from pipeline.clusters import cluster_facts, cluster_fields
from pipeline.config import Config
from pipeline.datasets import SAMPLES, clusters_of, embeddings_of, profiles_of, spotted_of
from pipeline.fingerprint import Fields, digest
from pipeline.overlap import overlap
from pipeline.parts import part_facts
from pipeline.run import Run, RunError
from pipeline.shards import Shard
from pipeline.stages import Stages
from pipeline.vectors import to_matrix

CLIP = (schema.CLIP_STATUS, schema.CLIP_SCORE, schema.CAPTION_TRUNCATED)
BATCH_ROWS = 2048
"""Held at once, but for the row group that is read from and the one that is written to."""

EMBEDDING_COLUMNS = [*schema.IDENTITY_NAMES, *(column.name for column in CLIP), schema.IMAGE_EMBEDDING]


def profile_fields(run: Run, config: Config) -> Fields:
    """What the profiles depend on: overlap settings and the fingerprints of their inputs.

    Raises:
        RunError: an input is not there yet.
        FingerprintError: an input was made by another configuration.
    """
    inputs = (SAMPLES, embeddings_of(config), spotted_of(config))
    digests = {dataset.kind: input_digest(run, config, dataset) for dataset in inputs}
    facts = cluster_facts(run, config)
    fields = cluster_fields(run, config)
    # Centroids of another model's embeddings would be compared with these without an error.
    claim(run, config, clusters_of(config), fields)
    # They depend on what they were fitted to, or imported from, as well as on their settings.
    digests["clusters"] = digest({**fields, "digest": facts["digest"]})
    # Nothing new follows from it, but who reads the profiles is told what the gate missed.
    gate = {name: value for name, value in (claimed(run, spotted_of(config)) or {}).items() if name == "gate"}
    return {"schema_version": schema.VERSION, "overlap": config.overlap.model_dump(), **digests, **gate}


def profile_shard(run: Run, shard: Shard, config: Config, clusters: ClusterModel, fields: Fields) -> dict[str, int]:
    """Write the profiles part of a shard from its samples, embeddings and spotted text.

    Returns the counts, and milliseconds by stage.

    Raises:
        RunError: the parts of the shard are not of the same samples, or one is damaged.
    """
    stages = Stages()
    columns = (*schema.PROFILES, *schema.metadata_columns(config.input.metadata))
    dataset = profiles_of(config)
    rows = failed = 0
    for source in (SAMPLES, embeddings_of(config), spotted_of(config)):
        check_part(run, source, shard.id, fields[source.kind])
    with run.part(dataset, shard.id, columns) as part:
        for samples, embeddings, spotted in zip_longest(
            run.read_batches(SAMPLES, shard.id, rows=BATCH_ROWS),
            run.read_batches(embeddings_of(config), shard.id, EMBEDDING_COLUMNS, BATCH_ROWS),
            run.read_batches(spotted_of(config), shard.id, rows=BATCH_ROWS),
        ):
            _check_aligned(shard, samples, embeddings, spotted)
            with stages.time("overlap"):
                rates = overlap(samples, spotted, config.overlap)
            with stages.time("assign"):
                assigned = _assigned(clusters, embeddings[schema.IMAGE_EMBEDDING])
            found: dict[str, Any] = {name: samples[name] for name in samples.column_names}
            for table in (embeddings, spotted, rates, assigned):
                found |= {name: table[name] for name in table.column_names if name not in found}
            part.write(pa.table({column.name: found[column.name] for column in columns}))
            rows += samples.num_rows
            failed += spotted[schema.SPOTTED.name].null_count
        counts = {"rows": rows, "spot_failed": failed}
        part.describe(part_facts(dataset, shard, digest(fields), counts, stages.seconds))
    return counts | stages.milliseconds()


def _check_aligned(shard: Shard, *tables: pa.Table | None) -> None:
    """All batches are there, and their rows are of the same samples."""
    keys = [table and table.select(schema.IDENTITY_NAMES) for table in tables]
    if not all(key is not None and key.equals(keys[0]) for key in keys):
        raise RunError(f"Shard {shard.id}: its parts hold different samples; remove them and extract it again.")


def _assigned(clusters: ClusterModel, embeddings: pa.ChunkedArray) -> pa.Table:
    """The columns of `schema.CLUSTER`, null where there is no embedding."""
    present = embeddings.is_valid().to_numpy()
    ids, distances = np.zeros(len(present), np.int32), np.zeros(len(present), np.float32)
    ids[present], distances[present] = clusters.assign(to_matrix(embeddings))
    columns = [pa.array(values, mask=~present) for values in (ids, distances)]
    return pa.table(columns, schema.arrow(schema.CLUSTER))

"""The profile job over drawn parts of real size, beside the matrix product and the reading it cannot do without.

Seconds are those of the processor, not of the clock: what else the machine has to do does not count, nor do several
cores count as one.
"""

import tempfile
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from pipeline import schema
from pipeline.claims import claim
from pipeline.clusters import load_clusters
from pipeline.config import Config
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, embeddings_of, spotted_of
from pipeline.fingerprint import digest
from pipeline.overlap import overlap
from pipeline.profile import EMBEDDING_COLUMNS, profile_fields, profile_shard
from pipeline.run import Run
from pipeline.sampling import draw_sample, sampling_threshold
from pipeline.shards import Shard
from pipeline.vectors import to_matrix
from tests.benchmarks import overlap as drawn_overlap
from tests.benchmarks.drawn import draw_clusters, draw_embeddings
from tests.benchmarks.figure import Figure, paired
from tests.benchmarks.query import draw_profiles

ROWS, DIM, PCA_DIM, K = 10_000, 512, 256, 4_000
TWO_BILLION = 2_000_000_000
SHARD = Shard("00000", "00000.tar", None, None)


def measure(rows: int = ROWS, k: int = K) -> Iterator[Figure]:
    """Samples a second of one core, of the whole and of what bounds it."""
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        run, config = draw_run(folder, rows, k)
        fields, clusters = profile_fields(run, config), load_clusters(run, config)
        inputs = {SAMPLES: None, embeddings_of(config): EMBEDDING_COLUMNS, spotted_of(config): None}
        embeddings = run.read_part(embeddings_of(config), SHARD.id)
        vectors = to_matrix(embeddings[schema.IMAGE_EMBEDDING]).astype(np.float32)
        points, axes, centroids = vectors @ clusters.pca_components.T, clusters.pca_components.T, clusters.centroids.T
        halves = [torch.from_numpy(array).bfloat16() for array in (points, np.ascontiguousarray(centroids))]

        def read() -> None:
            for dataset, columns in inputs.items():
                for _ in run.read_batches(dataset, SHARD.id, columns):
                    pass

        def sample() -> None:
            half = rows // 2
            batches = partial(run.read_batches, embeddings_of(config), SHARD.id)
            uids = (batch[schema.UID.name] for batch in batches([schema.UID.name, schema.CLIP_STATUS.name]))
            keys = [schema.SHARD.name, schema.INDEX.name, schema.UID.name, schema.IMAGE_EMBEDDING]
            draw_sample(batches(keys), half, sampling_threshold(uids, half))

        against = partial(paired, lambda: profile_shard(run, SHARD, config, clusters, fields), rounds=3, clock=cpu)
        whole, product = against(lambda: (vectors @ axes, points @ centroids))
        _, reading = against(read)
        samples, spotted = (run.read_part(dataset, SHARD.id) for dataset in (SAMPLES, spotted_of(config)))
        _, matching = against(partial(overlap, samples, spotted, config.overlap))
        _, assigning = against(partial(clusters.assign, vectors))
        _, passes = against(sample)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        _, half_product = against(lambda: halves[0] @ halves[1])
        torch.set_num_threads(threads)
    yield Figure(
        f"profile of {rows:,} rows: overlap, assignment to {k:,} clusters, {DIM}-d float16 embeddings, all parts read",
        f"{rows / whole:,.0f} samples/s of one core, {TWO_BILLION / (rows / whole) / 3600:,.0f} core-hours for 2e9",
        f"of that {matching / whole:.2f} overlap, {assigning / whole:.2f} assignment, {reading / whole:.2f} reading; "
        f"a plain fp32 product of that size {product / whole:.2f}, in bf16 {half_product / whole:.2f}",
        ("profile", rows / whole),
    )
    yield Figure(
        "drawing the sample of the clusters, two passes over the same embeddings",
        f"{rows / passes:,.0f} samples/s of one core",
        f"{passes / whole:.2f} of the time of the profile",
        ("cluster", rows / passes),
    )


def draw_run(folder: str, rows: int, k: int) -> tuple[Run, Config]:
    """A run of one shard that is extracted and clustered."""
    config = parse({"run": folder, "input": {"shards": "*.tar"}, "cluster": {"k": k, "pca_dim": PCA_DIM}})
    run, drawn = Run(folder), draw_profiles(1, rows)
    for table in drawn_overlap.tables(*drawn_overlap.draw(rows)):  # words that meet, in boxes that do not
        for name in set(table.column_names) - {schema.SHARD.name, schema.INDEX.name}:
            drawn = drawn.set_column(drawn.column_names.index(name), name, table[name])
    samples = (*schema.SAMPLES, *schema.metadata_columns(config.input.metadata))
    for dataset, columns in ((SAMPLES, samples), (spotted_of(config), schema.SPOTTED_TEXT)):
        claim(run, config, dataset, {"drawn": rows})
        with run.part(dataset, SHARD.id, columns) as part:
            part.write(drawn.select([column.name for column in columns]))
            part.describe({"fingerprint": digest({"drawn": rows})})
    draw_embeddings(run, config, DIM)
    draw_clusters(run, config, DIM)
    return run, config


cpu = time.process_time

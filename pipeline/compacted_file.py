"""One compacted file: the rows of its parts gathered, sorted by cluster, and written."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.claims import check_part
from pipeline.clustering import available_memory
from pipeline.compaction import Compaction, Group, is_vector
from pipeline.datasets import REJECTS
from pipeline.parts import FOOTER, open_writer
from pipeline.run import Run, RunError

ROW_GROUP_ROWS = 32_768
"""Measured: a query for one cluster reads half of what it reads at 65,536, and the file is 0.5 % larger."""

ROW_GROUP_BYTES = 256 << 20
"""In memory; row groups of long rows have fewer of them."""

CHUNK_BYTES = 64 << 20
"""Small parts are joined up to it: rows are then picked from few tables."""

READERS = 8

INDEX = schema.INDEX.name
CLUSTER_ID = schema.CLUSTER_ID.name
NO_CLUSTER = pa.scalar(2**31 - 1, pa.int32())
"""Sorted last."""

Clusters: TypeAlias = npt.NDArray[np.int32]
"""Cluster ids, (n,)."""

Report = Callable[[int, int], None]
"""Called with the rows written since the last call, and all rows read and written so far."""


def write_compacted(run: Run, compaction: Compaction, group: Group, report: Report) -> dict[str, int]:
    """Write the compacted file of a group; returns the counts.

    Memory: the rows of the group once, and a few row groups.

    Raises:
        RunError: a part is damaged, or of other settings or samples than the others; the message names it.
        MemoryError: the group does not fit into memory.
    """
    # What the last group took would not count as free.
    pa.default_memory_pool().release_unused()
    types = run.part_schema(compaction.dataset, group.shards[0])
    chunks, clusters = _load(run, compaction, group, types, report)
    if compaction.float32:
        types = _widened(types)
    rows, size = len(clusters), sum(chunk.nbytes for chunk in chunks)
    order = np.argsort(clusters, kind="stable")
    step = max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES * rows // max(1, size)))
    facts = {"dataset": str(compaction.dataset), **compaction.facts, "shards": group.shards, "counts": {"rows": rows}}
    with run.committed(run.part_path(compaction.folder, compaction.file(group))) as spool:
        with _writer(spool, types, compaction) as writer:
            for start in range(0, rows, step):
                table = _pick(chunks, order[start : start + step])
                # Arrow refuses to cast null vectors to the type they have.
                writer.write_table(table.cast(types) if compaction.float32 else table, row_group_size=step)
                report(table.num_rows, rows + start + table.num_rows)
            writer.add_key_value_metadata({FOOTER.decode(): json.dumps(facts)})
        if (written := pq.read_metadata(spool).num_rows) != rows:
            raise RunError(f"{compaction.dataset}: {rows:,} rows of {group.shards[0]} and others became {written:,}.")
    return {"rows": rows}


def _load(
    run: Run, compaction: Compaction, group: Group, types: pa.Schema, report: Report
) -> tuple[list[pa.Table], Clusters]:
    """The rows of a group, in the order of its shards, in a few tables; and the cluster of each."""
    chunks: list[pa.Table] = []
    waiting: list[pa.Table] = []
    clusters: list[Clusters] = []
    size = waiting_size = 0
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(group.shards), READERS):
            _check_memory(compaction, group, size, start)
            shards = group.shards[start : start + READERS]
            for shard, (table, ids) in zip(shards, readers.map(partial(_read, run, compaction), shards), strict=True):
                if table.schema != types:
                    raise RunError(f"{run.part_path(compaction.dataset, shard)} has other columns than other parts.")
                waiting.append(table)
                clusters.append(ids)
                size += table.nbytes
                waiting_size += table.nbytes
            if waiting_size >= CHUNK_BYTES or start + READERS >= len(group.shards):
                chunks.append(pa.concat_tables(waiting).combine_chunks())
                waiting, waiting_size = [], 0
            report(0, sum(map(len, clusters)))
    return chunks, np.concatenate(clusters)


def _read(run: Run, compaction: Compaction, shard: str) -> tuple[pa.Table, Clusters]:
    """A part, and the cluster of each of its rows: all the same where none is to be sorted by."""
    dataset, order = compaction.dataset, compaction.order
    for source, fingerprint in {dataset: compaction.fingerprint, order: compaction.order_fingerprint}.items():
        check_part(run, source, shard, fingerprint)
    table = run.read_part(dataset, shard)
    clusters = np.zeros(table.num_rows, np.int32)
    if dataset == REJECTS:
        return table, clusters
    wanted = [INDEX, CLUSTER_ID] if compaction.by_cluster else [INDEX]
    keys = table if order == dataset else run.read_part(order, shard, wanted)
    if keys[INDEX] != table[INDEX]:
        raise RunError(f"Shard {shard}: its parts of {dataset} and {order} hold different samples; make them again.")
    return table, keys[CLUSTER_ID].fill_null(NO_CLUSTER).to_numpy() if compaction.by_cluster else clusters


def _check_memory(compaction: Compaction, group: Group, size: int, shards: int) -> None:
    """Refuse before memory ends, by the size of the shards read; other workers fill it too, so this is asked often."""
    whole = size * len(group.shards) // max(1, shards)
    needed = whole - size + 4 * min(whole, ROW_GROUP_BYTES)
    if needed > (free := available_memory()):
        raise MemoryError(
            f"A file of {group.rows:,} rows of {compaction.dataset} needs {(size + needed) / 1e9:.1f} GB; "
            f"{needed / 1e9:.1f} GB of that are still to come and {free / 1e9:.1f} GB are free: lower --rows, or "
            "resources.max_actors."
        )


def _pick(chunks: Sequence[pa.Table], rows: npt.NDArray[np.intp]) -> pa.Table:
    """Rows by their numbers over all chunks. Arrow's own take would first join the chunks into a second copy."""
    ends = np.cumsum([chunk.num_rows for chunk in chunks])
    chosen = np.searchsorted(ends, rows, side="right")
    by_chunk = np.argsort(chosen, kind="stable")
    starts = ends - [chunk.num_rows for chunk in chunks]
    pieces = [chunk.take(rows[chosen == i] - starts[i]) for i, chunk in enumerate(chunks)]
    back = np.empty_like(by_chunk)
    back[by_chunk] = np.arange(len(rows))
    return pa.concat_tables(pieces).combine_chunks().take(back)


def _widened(types: pa.Schema) -> pa.Schema:
    """The columns with vectors of float32 for those of float16."""
    for i, field in enumerate(types):
        if is_vector(field, pa.float16()):
            element = field.type.value_field.with_type(pa.float32())
            types = types.set(i, field.with_type(pa.list_(element, field.type.list_size)))
    return types


def _writer(path: str, types: pa.Schema, compaction: Compaction) -> pq.ParquetWriter:
    """A writer as that of parts, with what readers need to leave out what they do not look for."""
    keys = [(name, "ascending") for name in (CLUSTER_ID, schema.SHARD.name, INDEX)]
    in_order = compaction.by_cluster and compaction.dataset == compaction.order
    return open_writer(
        path,
        types,
        write_page_index=True,
        sorting_columns=pq.SortingColumn.from_ordering(types, keys) if in_order else None,
    )

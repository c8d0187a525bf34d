"""What the parts of a dataset say they were made of, summed, without a call for each of a hundred thousand parts.

Every part's footer holds its counts. Those of a huge dataset are kept together in one small file beside the parts, each
with what the listing said of its part: a part that is another one now is read again. The file can be lost at any time.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather

from pipeline.arrow_files import arrow_file
from pipeline.datasets import Dataset
from pipeline.run import Run, RunError

KEPT = "_counts.arrow"
"""Not Parquet by its name, so that `*.parquet` means the parts."""

KEPT_FROM = 256
"""Footers that are read at once before their counts are kept: a small run is left as it is."""

FOOTER_READERS = 16

_KEY, _COUNTS = "part", "counts"
_SCHEMA = pa.schema([(_KEY, pa.string()), (_COUNTS, pa.map_(pa.string(), pa.int64()))])


def count_parts(run: Run, dataset: Dataset, shards: Collection[str]) -> tuple[Counter[str], int]:
    """The counts of the parts of some shards, summed, and how many parts cannot be read.

    Takes one listing, one small file, and a footer for each part that is new since that was written.
    """
    stamps = run.stamps(dataset)
    keys = {f"{shard} {stamps.get(shard, '')}": shard for shard in shards}
    table = _kept(run, dataset)
    table = table.filter(pc.is_in(table[_KEY], pa.array(keys, pa.string())))
    lacking = keys.keys() - set(table[_KEY].to_pylist())
    with ThreadPoolExecutor(FOOTER_READERS) as readers:
        read = readers.map(partial(_counts, run, dataset), [keys[key] for key in lacking])
        new = [{_KEY: key, _COUNTS: list(counts.items())} for key, counts in zip(lacking, read, strict=True) if counts]
    table = pa.concat_tables([table, pa.Table.from_pylist(new, _SCHEMA)])
    if len(new) >= KEPT_FROM:
        with suppress(OSError):  # who may only read a run has its counts all the same
            _keep(run, dataset, table)
    return _summed(table), len(keys) - table.num_rows


def _summed(table: pa.Table) -> Counter[str]:
    items = table[_COUNTS].combine_chunks()
    counts = pa.table({"name": items.keys, "count": items.items})
    sums = counts.group_by("name").aggregate([("count", "sum")])
    return Counter(dict(zip(sums["name"].to_pylist(), sums["count_sum"].to_pylist(), strict=True)))


def _counts(run: Run, dataset: Dataset, shard: str) -> Mapping[str, int] | None:
    """What a part says it was made of; None where it is damaged or gone."""
    try:
        counts: Mapping[str, int] | None = run.footer(dataset, shard).get("counts")
    except (RunError, FileNotFoundError):
        return None
    return counts


def _kept(run: Run, dataset: Dataset) -> pa.Table:
    """The counts that are kept; none where the file is missing or spoilt."""
    try:
        with arrow_file(run.fs, run.path(dataset, KEPT)) as file:
            table = pa.feather.read_table(file)
        return table if table.schema.equals(_SCHEMA) else _SCHEMA.empty_table()
    except (OSError, pa.ArrowException):
        return _SCHEMA.empty_table()


def _keep(run: Run, dataset: Dataset, table: pa.Table) -> None:
    with run.committed(run.path(dataset, KEPT)) as spool:
        pa.feather.write_feather(table, spool, compression="zstd")

"""Table 1 of a run with intervals and corrections, beside the published columns."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.tables import intervals as interval_columns
from pipeline.tables.intervals import INDEPENDENT, MIN_SHARDS, intervals
from pipeline.tables.published import CC12M, LAION_2B, MMC4, SOURCE
from pipeline.tables.result import Result
from pipeline.tables.sensitivity import SpotterAccuracy, corrected
from pipeline.tables.table1 import ROWS, SQL, Table1, formatted

PUBLISHED = (LAION_2B, MMC4, CC12M)


def compare(table: Table1, profiles: ds.Dataset | pa.Table, accuracy: SpotterAccuracy) -> Result:
    """A row for each row of Table 1: label, attribute, value of this run, its 95 % interval, published values.

    Where something is known of the spotter's accuracy there is a column `corrected_ours`. Counts are numbers of
    images, rates in [0, 1]; null: no such value.

    Args:
        table: of the profiles.
        profiles: read once more, for the intervals.
        accuracy: of the spotter, as far as it is known.
    """
    found = intervals(profiles)
    of_rate = {row["rate"]: row for row in found.to_pylist()}
    ours = corrected(table, accuracy)
    names = [name for _, name, _ in ROWS]
    columns: dict[str, list[float | None]] = {
        "this_run": [getattr(table, name) for name in names],
        "low_95": [of_rate[name]["low"] if name in of_rate else None for name in names],
        "high_95": [of_rate[name]["high"] if name in of_rate else None for name in names],
    }
    if accuracy.known:
        columns["corrected_ours"] = [ours.get(name) for name in names]
    for published in PUBLISHED:
        columns[_heading(published.name)] = [getattr(published, name, None) for name in names]
    methods = [of_rate[name]["method"] if name in of_rate else None for name in names]
    rows = pa.table(
        {
            "measure": [label for label, _, _ in ROWS],
            "name": names,
            **{name: pa.array(values, pa.float64()) for name, values in columns.items()},
            "interval": pa.array(methods, pa.string()),
        }
    )
    return Result(
        name="table1",
        title="Table 1: images by their text, and how much of the captions is in the images",
        table=rows,
        made_by=compare,
        sql=f"{SQL};\n-- per shard, for the intervals\n{interval_columns.SQL}",
        notes=tuple(_notes(table, found, accuracy)),
        shown=_shown(columns),
    )


def _shown(columns: Mapping[str, list[float | None]]) -> pa.Table:
    units = [unit for _, _, unit in ROWS]
    texts = {
        name: [formatted(value, unit) for value, unit in zip(values, units, strict=True)]
        for name, values in columns.items()
    }
    bounds = zip(texts.pop("low_95"), texts.pop("high_95"), strict=True)
    intervals_shown = [f"{low} to {high}" if low != "–" else "" for low, high in bounds]
    headings = {"corrected_ours": "corrected (ours)", **{_heading(p.name): f"{p.name} (published)" for p in PUBLISHED}}
    shown = {"this run": texts.pop("this_run"), "95 % interval": intervals_shown}
    shown |= {headings[name]: values for name, values in texts.items()}
    return pa.table({"": [label for label, _, _ in ROWS], **shown})


def _notes(table: Table1, found: pa.Table, accuracy: SpotterAccuracy) -> list[str]:
    shards = found["shards"][0].as_py()
    notes = [
        f"Published columns: {SOURCE}. The spotter there is DeepSolo: rates depend on the spotter.",
        f"{table.spot_failed:,} of {table.images:,} images could not be spotted and are in no share or rate.",
    ]
    if shards < MIN_SHARDS:
        notes.append(INDEPENDENT)
    else:
        notes.append(f"Intervals: bootstrap over {shards:,} shards, 95 %.")
    if accuracy.known:
        given = ", ".join(
            f"{name.replace('_', ' ')} {value:g}" for name, value in vars(accuracy).items() if value is not None
        )
        notes.append(f"corrected (ours): not in the paper; Rogan–Gladen and word recall, taking {given} as exact.")
    if accuracy.sensitivity is not None and accuracy.sensitivity + (accuracy.specificity or 0) <= 1:
        notes.append("Shares are not corrected: a spotter of such sensitivity and specificity tells nothing.")
    return notes


def _heading(name: str) -> str:
    return f"{name.lower().replace('-', '_')}_published"

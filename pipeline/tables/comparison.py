"""Table 1 of a run with intervals and corrections, beside the published columns."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.tables.intervals import INDEPENDENT, MIN_SHARDS, intervals, per_shard
from pipeline.tables.published import CC12M, LAION_2B, MMC4, SOURCE
from pipeline.tables.result import Result
from pipeline.tables.sensitivity import SpotterAccuracy, corrected
from pipeline.tables.table1 import ROWS, SQL, Table1, formatted

PUBLISHED = (LAION_2B, MMC4, CC12M)
CORRECTED = {"corrected_ours": "value", "corrected_low_95": "low", "corrected_high_95": "high"}


def compare(table: Table1, profiles: ds.Dataset | pa.Table, accuracy: SpotterAccuracy) -> Result:
    """A row for each row of Table 1: label, attribute, value of this run, its 95 % interval, published values.

    Where something is known of the spotter's accuracy there are `corrected_ours` and its interval. Counts are of
    images, rates in [0, 1]; null: no such value.

    Args:
        table: of the profiles.
        profiles: read once more, for the intervals.
        accuracy: of the spotter, as far as it is known.
    """
    false_alarms = 0.0 if accuracy.specificity is None else 1 - accuracy.specificity
    found = intervals(profiles, false_alarms)
    of_rate = {row["rate"]: row for row in found.to_pylist()}
    names = [name for _, name, _ in ROWS]
    columns: dict[str, list[float | None]] = {
        "this_run": [getattr(table, name) for name in names],
        "low_95": [of_rate[name]["low"] if name in of_rate else None for name in names],
        "high_95": [of_rate[name]["high"] if name in of_rate else None for name in names],
    }
    if accuracy.known:
        for column, bound in CORRECTED.items():
            ours = corrected({rate: row[bound] for rate, row in of_rate.items()}, accuracy)
            columns[column] = [ours.get(name) for name in names]
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
        sql=f"{SQL};\n-- per shard, for the intervals\n{per_shard(false_alarms)}",
        notes=tuple(_notes(table, found, accuracy)),
        shown=_shown(columns),
    )


def _shown(columns: Mapping[str, list[float | None]]) -> pa.Table:
    units = [unit for _, _, unit in ROWS]
    texts = {
        name: [formatted(value, unit) for value, unit in zip(values, units, strict=True)]
        for name, values in columns.items()
    }

    def bounds(low: str, high: str) -> list[str]:
        pairs = zip(texts.pop(low), texts.pop(high), strict=True)
        return [f"{low} to {high}" if low != "–" else "" for low, high in pairs]

    shown = {"this run": texts.pop("this_run"), "95 % interval": bounds("low_95", "high_95")}
    if "corrected_ours" in texts:
        shown["corrected (ours)"] = texts.pop("corrected_ours")
        shown["95 % interval (ours)"] = bounds("corrected_low_95", "corrected_high_95")
    headings = {_heading(published.name): f"{published.name} (published)" for published in PUBLISHED}
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

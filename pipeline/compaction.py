"""Compaction: the parts of a dataset joined into files of a million rows and more, each sorted by cluster.

Thousands of small parts are slow to query. A compacted file holds the rows of some consecutive shards, beside their
parts: those stay, and go on saying what is done. Nothing is sorted over all files, so a new shard touches no full
file, every file is one task for one worker, and a shard lies within one file, as a bootstrap over shards wants it.

The datasets of a run are joined in the same groups of shards and sorted by the clusters of the same profiles: files
of two datasets whose names begin alike hold the same samples, row by row.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipeline.datasets import COMPACTED, REJECTS, Dataset, compacted_of
from pipeline.fingerprint import digest
from pipeline.run import Run, RunError

ROWS = 1_000_000
"""Rows of a file, at least, where there are so many."""

GROUPS = "_groups.json"
"""Beside the compacted files of the dataset that orders the others: the groups of shards that have files."""

FOOTER_READERS = 32


@dataclass(frozen=True)
class Group:
    """Shards that share a file, sorted by id, and the number of their samples."""

    shards: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Compaction:
    """What all compacted files of a dataset have in common.

    Attributes:
        dataset: whose parts are joined.
        order: profiles that rows are sorted by, as (cluster_id, shard, index), those without a cluster last; or
            the samples: then rows stay as they are. Rejects have no cluster, and always stay as they are.
        fingerprint: of the dataset's parts.
        order_fingerprint: of the parts of `order`.
        float32: vectors of float16 are widened.
    """

    dataset: Dataset
    order: Dataset
    fingerprint: str | None
    order_fingerprint: str | None
    float32: bool

    @property
    def folder(self) -> Dataset:
        return compacted_of(self.dataset)

    @property
    def by_cluster(self) -> bool:
        return self.order.kind == "profiles" and self.dataset != REJECTS

    @property
    def facts(self) -> dict[str, Any]:
        """As they stand in the record and in the footer of every file."""
        return {
            "order": str(self.order),
            "float32": self.float32,
            "fingerprint": self.fingerprint,
            "order_fingerprint": self.order_fingerprint,
        }

    def file(self, group: Group) -> str:
        """Name of a group's file: by the samples it holds and their order, then by what is told of them.

        It follows from all that decides the content, so a file that is there is done.
        """
        samples = {"shards": group.shards, "order": str(self.order), "fingerprint": self.order_fingerprint}
        content = {"fingerprint": self.fingerprint, "float32": self.float32}
        return f"{digest(samples)[:16]}-{digest(content)[:8]}"


def plan(run: Run, dataset: Dataset, order: Dataset, float32: bool = False) -> Compaction:
    """How a dataset would be compacted now.

    Raises:
        RunError: it or the dataset that orders it has no parts yet.
    """
    firsts = []
    for wanted in (dataset, order):
        if not (done := run.done(wanted)):
            raise RunError(f"{run.url} has no {wanted} yet.")
        firsts.append(min(done))
    fingerprint, order_fingerprint = (
        run.footer(wanted, first).get("fingerprint") for wanted, first in zip((dataset, order), firsts, strict=True)
    )
    halves = any(is_vector(field, pa.float16()) for field in run.part_schema(dataset, firsts[0]))
    return Compaction(dataset, order, fingerprint, order_fingerprint, float32 and halves)


def is_vector(field: pa.Field, number: pa.DataType) -> bool:
    """Whether a column holds vectors of such numbers."""
    return bool(pa.types.is_fixed_size_list(field.type) and field.type.value_type == number)


def check_same_settings(run: Run, compaction: Compaction) -> None:
    """Refuse to undo what an earlier command was asked for.

    Raises:
        RunError: the files that are there have another order, or vectors of another type.
    """
    record = run.read_json(compaction.folder, COMPACTED)
    for name in ("order", "float32"):
        if record and record["files"] and record[name] != compaction.facts[name]:
            raise RunError(
                f"{run.path(compaction.folder)} was made with {name} = {record[name]!r}, now it is "
                f"{compaction.facts[name]!r}; ask for the same, or for everything --anew."
            )


def forget(run: Run, dataset: Dataset) -> None:
    """Remove the compacted files of a dataset, the record first: with it readers go back to the parts."""
    folder = compacted_of(dataset)
    for name in (COMPACTED, GROUPS, *(f"{file}.parquet" for file in run.done(folder))):
        run.remove(folder, name)


def plan_groups(run: Run, order: Dataset, rows: int) -> list[Group]:
    """Groups of all shards that have a part in `order`: those that have files, and groups of the other shards.

    A group that lost a part is dissolved. When there are new shards, so is a group below half of `rows`.
    """
    done = run.done(order)
    kept = [group for group in _stored_groups(run, order) if done.issuperset(group.shards)]
    if _ungrouped(done, kept):
        kept = [group for group in kept if 2 * group.rows >= rows]
    new = _ungrouped(done, kept)
    with ThreadPoolExecutor(FOOTER_READERS) as readers:
        counts = readers.map(lambda shard: run.footer(order, shard)["counts"]["rows"], new)
        return kept + group_shards(dict(zip(new, counts, strict=True)), rows)


def group_shards(counts: Mapping[str, int], rows: int) -> list[Group]:
    """Consecutive shards, a group closed when it has `rows` rows; a rest below half of that joins the last one.

    Args:
        counts: rows by shard id, sorted by id.
        rows: of a group, at least.
    """
    groups: list[Group] = []
    shards: list[str] = []
    held = 0
    for shard, count in counts.items():
        shards.append(shard)
        held += count
        if held >= rows:
            groups.append(Group(tuple(shards), held))
            shards, held = [], 0
    if shards and groups and 2 * held < rows:
        last = groups.pop()
        shards, held = [*last.shards, *shards], last.rows + held
    return [*groups, Group(tuple(shards), held)] if shards else groups


def _stored_groups(run: Run, order: Dataset) -> list[Group]:
    return [
        Group(tuple(stored["shards"]), stored["rows"]) for stored in run.read_json(compacted_of(order), GROUPS) or []
    ]


def _ungrouped(done: set[str], groups: Iterable[Group]) -> list[str]:
    return sorted(done.difference(*(group.shards for group in groups)))


def clear(run: Run, compaction: Compaction, groups: Iterable[Group]) -> None:
    """Remove files that are neither in the record nor planned: a killed compaction of another plan left them."""
    record = run.read_json(compaction.folder, COMPACTED) or {"files": {}}
    _remove(run, compaction, run.done(compaction.folder).difference(record["files"], map(compaction.file, groups)))


def commit(run: Run, compactions: Sequence[Compaction], groups: Sequence[Group]) -> None:
    """Record the files of the groups that are there, for each dataset at once, and remove what they replace.

    Args:
        run: the run.
        compactions: of datasets that share one order.
        groups: as planned for it; a group none of whose files is there is not yet bound to stay one.
    """
    order = compactions[0].order
    stored = _stored_groups(run, order)
    there = {compaction: run.done(compaction.folder) for compaction in compactions}
    held = [g for g in groups if g in stored or any(c.file(g) in names for c, names in there.items())]
    if held != stored:
        run.write_json([asdict(group) for group in held], compacted_of(order), GROUPS)
    for compaction, names in there.items():
        files = {compaction.file(group): list(group.shards) for group in held if compaction.file(group) in names}
        record = run.read_json(compaction.folder, COMPACTED)
        if record and {name: record[name] for name in compaction.facts} == compaction.facts:
            # A file stays while one that would replace it is missing.
            renewed = set().union(*files.values())
            old = {name: shards for name, shards in record["files"].items() if renewed.isdisjoint(shards)}
            files |= {name: shards for name, shards in old.items() if name in names}
        run.write_json({**compaction.facts, "files": files}, compaction.folder, COMPACTED)
        _remove(run, compaction, names.difference(files))


def _remove(run: Run, compaction: Compaction, files: Iterable[str]) -> None:
    for file in files:
        run.remove(compaction.folder, f"{file}.parquet")

"""What of a run is done, pending and failed: from listings and part footers alone."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import printable, say
from pipeline.config import Config
from pipeline.datasets import (
    CLUSTER_FACTS,
    SAMPLES,
    clusters_of,
    embeddings_of,
    import_of,
    profiles_of,
    spotted_of,
)
from pipeline.imported.embeddings import told_counts
from pipeline.imported.index import FACTS as INDEX_FACTS
from pipeline.part_counts import count_parts
from pipeline.run import Run
from pipeline.shards import told_sample

SHOWN_ERRORS = 10
SHOWN_PENDING = 5


def print_status(url: str, console: Console) -> None:
    """Print datasets with their shards done and pending, rejects by reason, failed shards with their errors.

    Raises:
        RunError: there is no run.
    """
    run = Run(url)
    config = run.config()
    collection = run.collection()
    shards = [shard.id for shard in collection if shard.sampled]
    done = {
        dataset: run.done(dataset)
        for dataset in (SAMPLES, embeddings_of(config), spotted_of(config), profiles_of(config))
    }
    table = Table("dataset", "done", "pending", "first pending")
    for dataset, ids in done.items():
        pending = [shard for shard in shards if shard not in ids]
        first = ", ".join(pending[:SHOWN_PENDING])
        table.add_row(str(dataset), f"{len(ids):,}", f"{len(pending):,}", Text(printable(first)))
    fitted = run.read_json(clusters_of(config), CLUSTER_FACTS)
    table.add_row(str(clusters_of(config)), "1" if fitted else "0", "0" if fitted else "1", "")
    say(console, f"{url}: {told_sample(collection) or f'{len(shards):,} shards'}")
    console.print(table)
    for dataset, ids in done.items():
        if files := run.compacted(dataset, ids):
            say(console, f"compacted: {sum(map(len, files.values())):,} shards of {dataset} in {len(files):,} files")
    counts, unread = count_parts(run, SAMPLES, done[SAMPLES])
    say(console, f"samples: {counts['rows']:,} kept, {counts['rejects']:,} rejects")
    if unread:
        say(console, f"  not counted: {unread:,} parts of {SAMPLES} that cannot be read")
    for name, count in sorted(counts.items()):
        if name.startswith("reject_"):
            say(console, f"  {name.removeprefix('reject_')}: {count:,}")
    if config.clip.imported:
        say_import(str(embeddings_of(config)), run, config, console)
    failed = sorted(run.failed())
    say(console, f"failed shards: {len(failed):,}")
    for shard in failed[:SHOWN_ERRORS]:
        say(console, f"  {shard} {_last_error(run, shard)}")


def _last_error(run: Run, shard: str) -> str:
    """What a shard set aside failed for; its file only informs, and may be gone or spoilt."""
    try:
        record = run.read_json("errors", f"{shard}.json")
        return f"({record['job']}): {record['errors'][-1]}"
    except (ValueError, TypeError, LookupError):
        return "(its error file cannot be read)"


def say_import(title: str, run: Run, config: Config, console: Console) -> None:
    """Say how many samples have imported embeddings, and why the others have none."""
    dataset = embeddings_of(config)
    counts, unread = count_parts(run, dataset, run.done(dataset))
    index = run.read_json(import_of(config), INDEX_FACTS)
    say(console, f"{title}: {told_counts(counts, index and index['rows'])}")
    if unread:
        say(console, f"  not counted: {unread:,} parts of {dataset} that cannot be read")

"""What of a run is done, pending and failed: from listings and part footers alone."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import printable, say
from pipeline.datasets import CLUSTER_FACTS, SAMPLES, clusters_of, embeddings_of, profiles_of, spotted_of
from pipeline.run import Run, RunError

FOOTER_READERS = 16
SHOWN_ERRORS = 10
SHOWN_PENDING = 5


def print_status(url: str, console: Console) -> None:
    """Print datasets with their shards done and pending, rejects by reason, failed shards with their errors.

    Raises:
        RunError: there is no run.
    """
    run = Run(url)
    config = run.config()
    shards = [shard.id for shard in run.shards()]
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
    say(console, f"{url}: {len(shards):,} shards")
    console.print(table)
    with ThreadPoolExecutor(FOOTER_READERS) as readers:
        told = [counts for counts in readers.map(partial(_counts, run), done[SAMPLES]) if counts]
    counts = sum(map(Counter[str], told), Counter[str]())
    say(console, f"samples: {counts['rows']:,} kept, {counts['rejects']:,} rejects")
    if unread := len(done[SAMPLES]) - len(told):
        say(console, f"  not counted: {unread:,} parts of {SAMPLES} that cannot be read")
    for name, count in sorted(counts.items()):
        if name.startswith("reject_"):
            say(console, f"  {name.removeprefix('reject_')}: {count:,}")
    failed = sorted(run.failed())
    say(console, f"failed shards: {len(failed):,}")
    for shard in failed[:SHOWN_ERRORS]:
        record = run.read_json("errors", f"{shard}.json") or {"job": "", "errors": ["its error file is gone"]}
        say(console, f"  {shard} ({record['job']}): {record['errors'][-1]}")


def _counts(run: Run, shard: str) -> Mapping[str, int] | None:
    """What the samples part of a shard says it was made of; None where it is damaged or gone."""
    try:
        counts: Mapping[str, int] | None = run.footer(SAMPLES, shard).get("counts")
    except (RunError, FileNotFoundError):
        return None
    return counts

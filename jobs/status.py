"""What of a run is done, pending and failed: from listings and part footers alone."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.datasets import CLUSTER_FACTS, REJECTS, SAMPLES, clusters_of, embeddings_of, profiles_of, spotted_of
from pipeline.run import Run

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
        table.add_row(str(dataset), f"{len(ids):,}", f"{len(pending):,}", escape(first))
    fitted = run.read_json(clusters_of(config), CLUSTER_FACTS)
    table.add_row(str(clusters_of(config)), "1" if fitted else "0", "0" if fitted else "1", "")
    console.print(f"{url}: {len(shards):,} shards", markup=False)
    console.print(table)
    with ThreadPoolExecutor(FOOTER_READERS) as readers:
        footers = list(readers.map(lambda shard: run.footer(REJECTS, shard), sorted(done[SAMPLES])))
    counts = Counter[str]()
    for footer in footers:
        counts.update(footer["counts"])
    console.print(f"samples: {counts['rows']:,} kept, {counts['rejects']:,} rejects", markup=False)
    for name, count in sorted(counts.items()):
        if name.startswith("reject_"):
            console.print(f"  {name.removeprefix('reject_')}: {count:,}", markup=False)
    failed = sorted(run.failed())
    console.print(f"failed shards: {len(failed):,}", markup=False)
    for shard in failed[:SHOWN_ERRORS]:
        record = run.read_json("errors", f"{shard}.json") or {"job": "", "errors": ["its error file is gone"]}
        console.print(f"  {shard} ({record['job']}): {record['errors'][-1]}", markup=False)

"""The quickstart: demo shards, the whole chain on a local Ray, Table 1 beside the known truth."""

from pathlib import Path

from rich.console import Console

from jobs.cluster import run_cluster
from jobs.extract import run_extract
from jobs.profile import run_profile
from jobs.session import session
from jobs.table1 import print_table1
from pipeline.config import load
from pipeline.demo.shards import draw_demo

DEMO = Path("demo")
TRUTH = DEMO / "truth.parquet"

NEXT = """
The profile: one Parquet row per sample in {run}/profiles/main/
  parrotscope schema                                  what every column means
  parrotscope status {run}                what is done, and what was rejected and why
Ask it a question:
  {python} -c "import duckdb; duckdb.sql(\\"select caption, cotr, clip_score from '{run}/profiles/main/*.parquet'
  where text_class = 'co_emb' order by clip_score desc limit 10\\").show()"
Profile your own shards:
  parrotscope profile cc12m --set input.shards='your/{{00000..00009}}.tar' --set run=runs/mine --set cluster.k=100
"""


def run_quickstart(console: Console) -> None:
    """Draw the demo shards where they are not, profile them, and print what came out and what to try next."""
    if not TRUTH.exists():
        draw_demo(DEMO)
    console.print(f"demo shards, and the truth about them: {DEMO}/", markup=False)
    config = load("quickstart")
    with session(config.resources):
        run_extract(config, console)
        run_cluster(config, console)
        run_profile(config, console)
    print_table1(config.run, config.profile.name, TRUTH, console)
    console.print(NEXT.format(run=config.run, python=".venv/bin/python"), markup=False)

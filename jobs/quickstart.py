"""What the quickstart adds to the chain: the demo shards before it, and what to try after it."""

import os
import sys
from pathlib import Path

from rich.console import Console

from jobs.console import printable, say
from pipeline.config import Config
from pipeline.demo.shards import draw_demo

DEMO = Path("demo")
TRUTH = DEMO / "truth.parquet"

NEXT = """
The profile, one Parquet row per sample: {run}/profiles/main/*.parquet

Try next:

  # what is done, and what was rejected and why
  {bin}/parrotscope status {run}

  # what every column means
  {bin}/parrotscope schema

  # which captions are mostly printed in their image
  {bin}/parrotscope query {run} "select caption, co_emb_words, cotr, clip_score
    from profiles where cotr > 0.5 order by clip_score desc limit 10"

  # your own shards, with OpenAI's ViT-B/32 (fetched by open_clip)
  {bin}/parrotscope profile cc12m --set run=runs/mine --set cluster.k=100 \\
    --set input.shards='/your/shards/{{00000..00009}}.tar'
"""


def prepare_demo(console: Console) -> None:
    """Draw the demo shards where they are not."""
    if not TRUTH.exists():
        draw_demo(DEMO)
    say(console, f"demo shards, and the truth about them: {DEMO}/")


def say_next(config: Config, console: Console) -> None:
    """Say where the profile lies and what to try with it."""
    folder = os.path.relpath(Path(sys.executable).parent)
    console.print(NEXT.format(run=printable(config.run), bin=printable(folder)), markup=False)

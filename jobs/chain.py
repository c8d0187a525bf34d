"""The chain of the main job: extract, cluster, profile."""

from rich.console import Console

from jobs.cluster import run_cluster
from jobs.extract import run_extract
from jobs.profile import run_profile
from pipeline.config import Config


def run_chain(config: Config, console: Console, partial: bool = False) -> None:
    """Run the three jobs one after the other; each does only what is missing.

    Raises:
        As the jobs do; a job that fails ends the chain.
    """
    run_extract(config, console)
    run_cluster(config, console, partial)
    run_profile(config, console)

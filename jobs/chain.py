"""The chain of the main job: extract (and import, where embeddings are there already), cluster, profile."""

from rich.console import Console

from jobs.cluster import run_cluster
from jobs.console import say
from jobs.extract import run_extract
from jobs.job import JobError
from jobs.profile import run_profile
from pipeline.config import Config


def run_chain(config: Config, console: Console, partial: bool = False) -> None:
    """Run the three jobs one after the other; each does only what is missing.

    Args:
        config: the run's configuration.
        console: where to show.
        partial: go on with the shards that could be extracted; the chain still ends in a JobError for the others.

    Raises:
        As the jobs do; a job that fails ends the chain.
    """
    try:
        run_extract(config, console)
    except JobError as error:
        if not partial:
            raise
        say(console, str(error))
    run_cluster(config, console, partial)
    run_profile(config, console)

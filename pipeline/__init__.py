"""What is computed, without a word of how it is distributed. `open_run` is where notebooks and scripts begin."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.query.open_run import OpenRun


def open_run(url: str, profiles: str = "main", memory_limit: str | None = None) -> "OpenRun":
    """Open a run for questions: `.sql("select …")` and `.samples("cotr > 0.5")`; arguments as of `OpenRun`."""
    from pipeline.query.open_run import OpenRun  # here, so that to import a part of `pipeline` stays light

    return OpenRun(url, profiles, memory_limit)

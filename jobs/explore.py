"""The job `explore`: a page on the loopback address to search a run's samples and look at them."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from jobs.console import say
from pipeline.datasets import profiles_named
from pipeline.report.gallery import GallerySettings
from pipeline.run import Run
from pipeline.tables.of_run import whole_profiles

PAGE = Path(__file__).parent / "explorer" / "page.py"

OPTIONS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "global.developmentMode": "false",
    "runner.magicEnabled": "false",  # it would show the strings below constants
}
"""Of streamlit: this machine alone reaches the page, and it tells nobody of its use."""


def run_explore(url: str, name: str, port: int, settings: GallerySettings, console: Console) -> NoReturn:
    """Serve the page until it is interrupted: this process becomes the server, so whatever ends it ends the page.

    Args:
        url: folder or URL of the run.
        name: of the profiles dataset.
        port: where it listens, on the loopback address.
        settings: whether flagged images are shown, and what is blurred.
        console: where to print.

    Raises:
        ImportError: streamlit is not installed.
        ValueError: no dataset can have that name.
        RunError: there are no profiles of that name, or they lack a column.
    """
    if find_spec("streamlit") is None:
        raise ImportError("explore needs streamlit, which is not installed: pip install 'parrotscope[explore]'.")
    whole_profiles(Run(url), profiles_named(name))
    options = [f"--{option}={value}" for option, value in {**OPTIONS, "server.port": port}.items()]
    asked = json.dumps({"url": url, "name": name, "show_flagged": settings.show_flagged, "blur": settings.blur})
    say(console, f"{url}: http://127.0.0.1:{port} shows it on this machine, until Ctrl-C")
    console.file.flush()
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(PAGE), *options, "--", asked])  # noqa: S606

"""Submitting a job to a Ray cluster by its job API: code and configuration go along, logs and status come back."""

import asyncio
import importlib.util
import logging
import os
import shlex
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml
from fsspec.utils import get_protocol
from ray.job_submission import JobStatus, JobSubmissionClient
from rich.console import Console

from jobs.console import inert, say
from jobs.session import PACKAGES, check_in_reach
from pipeline.config import Config
from pipeline.config_file import ConfigError, load
from pipeline.secrets import without_secrets
from pipeline.shards import pattern_lines
from pipeline.spotting.config import CustomConfig

CONFIG = "submitted.yaml"
"""The configuration, beside the packages in the job's working folder."""

RETRY_SECONDS = 1.0
"""Between a connection that was lost while logs were followed, and the next."""

UNSTOPPED = "the job goes on. Logs: ray job logs --address {0} --follow {1}; to stop it: ray job stop --address {0} {1}"


def run_submit(
    command: Sequence[str],
    config: str,
    overrides: Sequence[str],
    address: str,
    shared_disk: bool,
    wait: bool,
    console: Console,
) -> int:
    """Run a command of this program on a cluster, and follow it to its end; returns its exit status.

    Args:
        command: of the command line, as ("extract", "--only", "clip"); its configuration is added.
        config: YAML file or preset, read here.
        overrides: as of `load`.
        address: of the cluster's dashboard, http(s)://host:port.
        shared_disk: the nodes see the paths of this machine, which are refused otherwise.
        wait: follow the logs until the job ends; else 0 is returned at once.
        console: where to show.

    Raises:
        ConfigError: the configuration is wrong, or names paths that are this machine's alone.
        SessionError, ConnectionError: the cluster is out of reach.
        RuntimeError: it refuses the job.
    """
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError(f"--address {address!r}: expected the dashboard's, as http://host:8265.")
    settings = _elsewhere(load(config, overrides), shared_disk)
    check_in_reach(f"{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}")
    # Ray would let its environment win over the address that was given, and tell of every step.
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    for module in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{module}").setLevel(logging.ERROR)
    client = JobSubmissionClient(address)
    with tempfile.TemporaryDirectory() as folder:
        _pack(settings, Path(folder))
        job = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "jobs.cli", *command, CONFIG]),
            runtime_env={"working_dir": folder},
            metadata={"run": without_secrets(settings.run)},
        )
    say(console, f"submit: {' '.join(command)} of {settings.run} is job {job} at {address}")
    unstopped = f"submit: {UNSTOPPED.format(address, job)}"
    if not wait:
        say(console, unstopped)
        return 0
    try:
        return _follow(client, job, console)
    except KeyboardInterrupt:
        say(console, unstopped)
        return 130


def _elsewhere(config: Config, shared_disk: bool) -> Config:
    """The configuration as another machine can use it: lists of shards read, local paths refused or absolute.

    Raises:
        ConfigError: a local path, and no shared disk.
    """
    values = config.model_dump(mode="json")
    values["input"]["shards"] = [line for pattern in config.input.shards for line in pattern_lines(pattern)]
    values["resources"]["address"] = "auto"
    local = [(name, place, holder, key) for name, place, holder, key in _places(values) if _is_local(place)]
    if local and not shared_disk:
        name, place, *_ = local[0]
        raise ConfigError(
            f"{name}: {place} is a path of this machine, which the cluster cannot have: give a URL that all nodes "
            "reach, or --shared-disk where they see this machine's paths."
        )
    for _, place, holder, key in local:
        holder[key] = os.path.abspath(os.path.expanduser(place.removeprefix("file://")))
    return Config.model_validate(values)


def _places(values: dict[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """Every path or URL of a configuration: name, value, and where it stands (container and key)."""
    shards = values["input"]["shards"]
    yield from (("input.shards", pattern, shards, number) for number, pattern in enumerate(shards))
    for name in (
        "run", "input.root", "clip.pretrained", "clip.model_config_file", "clip.imported.folder",
        "cluster.imported.centroids", "cluster.imported.pca", "spotting.model_directory", "spotting.gate",
    ):  # fmt: skip
        *sections, key = name.split(".")
        holder: Any = values
        for section in sections:
            holder = holder.get(section) or {}
        if (place := holder.get(key)) and not (key == "pretrained" and _is_tag(place)):
            yield name, place, holder, key


def _is_local(place: str) -> bool:
    return get_protocol(place.split("::")[-1]) in ("file", "local")


def _is_tag(pretrained: str) -> bool:
    """Whether weights are named by open_clip's tag, not by a file."""
    return "/" not in pretrained and not os.path.isfile(pretrained)


def _pack(config: Config, folder: Path) -> None:
    """Fill a working folder: this program's code, the user's own spotter, the configuration."""
    unused = ["__pycache__"] if config.clip.model == "embedded" else ["__pycache__", "embedded_clip"]
    for package in PACKAGES:
        shutil.copytree(package, folder / Path(package).name, ignore=shutil.ignore_patterns(*unused))
    if isinstance(config.spotting, CustomConfig):
        _take_along(config.spotting.target.partition(":")[0].partition(".")[0], folder)
    (folder / CONFIG).write_text(yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True))


def _take_along(module: str, folder: Path) -> None:
    """Copy the user's own top-level module or package, unless it is installed, and so the image's part."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None or found.origin.startswith(sysconfig.get_path("purelib")):
        return
    if found.submodule_search_locations:
        shutil.copytree(
            found.submodule_search_locations[0], folder / module, ignore=shutil.ignore_patterns("__pycache__")
        )
    else:
        shutil.copy(found.origin, folder)


def _follow(client: JobSubmissionClient, job: str, console: Console) -> int:
    """Show the logs of a job until it ends; returns the exit status of its driver.

    Raises:
        OSError: the cluster is out of reach.
    """
    shown = 0

    async def show() -> None:
        """Print what is beyond what was shown: a new connection begins at the first line again."""
        nonlocal shown
        seen = 0
        async for text in client.tail_job_logs(job):
            seen += len(text)
            if seen > shown:
                console.file.write(inert(text[-(seen - shown) :]))
                console.file.flush()
                shown = seen

    while True:
        # Where a connection was lost, what is asked next tells whether the job and its cluster are there.
        with suppress(aiohttp.ClientError, RuntimeError, OSError):
            asyncio.run(show())
        info = client.get_job_info(job)
        if info.status.is_terminal():
            break
        time.sleep(RETRY_SECONDS)
    # Where there was no driver, as the cluster could not set it up, no log says why.
    why = f": {info.message}" if info.driver_exit_code is None and info.message else ""
    say(console, f"submit: job {job} {info.status.value.lower()}{why}")
    return 0 if info.status is JobStatus.SUCCEEDED else info.driver_exit_code or 1

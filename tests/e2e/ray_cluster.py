"""Real Ray nodes on the loopback address, begun by `ray start` as on a cluster, on ports and a folder of their own.

They ask for a token, and do not have this program: its folders are hidden from them, where the system allows that.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from ray.job_submission import JobSubmissionClient

from jobs.session import LOCAL_ENVIRONMENT
from tests.e2e.command import REPOSITORY

BIN = Path(sys.executable).parent
TOKEN = "0123456789abcdef" * 4


def wait_for(happened: Callable[[], object], process: subprocess.Popen, seconds: float = 120) -> None:
    """Wait until it happened; a process that ends before fails the test."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def hiding(*folders: Path) -> list[str]:
    """What a command begins with that is not to see folders: a mount name space of its own, with empty ones there."""
    shell = " && ".join([*(f"mount -t tmpfs none '{folder}'" for folder in folders), 'exec "$@"'])
    return ["unshare", "--mount", "sh", "-c", shell, "sh"]


def can_hide() -> bool:
    try:
        return subprocess.run([*hiding(Path("/mnt")), "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def own_code() -> list[Path]:
    """Folders of this program's packages, here and where a process elsewhere would import them from."""
    code = "import jobs, pipeline; print(*jobs.__path__, *pipeline.__path__, sep='\\n')"
    installed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", env=environment())
    return [*(REPOSITORY / name for name in ("jobs", "pipeline")), *map(Path, installed.stdout.split())]


def environment() -> dict[str, str]:
    """That of a node: without the checkout on its path."""
    left_out = ("PYTHONPATH", "RAY_ADDRESS", *LOCAL_ENVIRONMENT)
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PATH": f"{BIN}:{kept['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@dataclass(frozen=True)
class Head:
    """A running head: URL of its dashboard, address of its GCS and of Ray Client, URL of its metrics, its files."""

    dashboard: str
    address: str
    client: str
    metrics: str
    folder: Path

    def jobs(self) -> JobSubmissionClient:
        # This process's Ray read its environment before there was a token.
        return JobSubmissionClient(self.dashboard, headers={"Authorization": f"Bearer {TOKEN}"})

    def scrape(self) -> str:
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:  # noqa: S310 - loopback
            return answer.read().decode()

    def said_of_clients(self) -> str:
        """What the processes that serve Ray Client have said."""
        files = sorted(self.folder.glob("session_latest/logs/ray_client_server*"))
        return "".join(f"{file.name}:\n{file.read_text(errors='replace')}\n" for file in files)


@contextmanager
def process_of(*command: str | Path) -> Iterator[subprocess.Popen]:
    """A process on the loopback address until the end of the block; what it started ends with it."""
    process = subprocess.Popen(
        command, env=environment() | LOCAL_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    )
    try:
        yield process
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        for left in psutil.wait_procs(family, 20)[1]:
            left.kill()


JOIN = """
import sys, time
from ray._private.node import Node
from ray._private.parameter import RayParams
Node(RayParams(gcs_address=sys.argv[1], node_ip_address="127.0.0.1", num_cpus=1, object_store_memory=100_000_000,
     min_worker_port=0, max_worker_port=0), head=False, shutdown_at_exit=True, spawn_reaper=False)
time.sleep(3600)
"""
"""`ray start` lets no second node join a cluster that is on the loopback address."""


def ray_worker(head: "Head", *hidden: Path) -> AbstractContextManager[subprocess.Popen]:
    """A second node, without this program's code too, and with empty folders in the place of those that are hidden."""
    return process_of(*hiding(*own_code(), *hidden), sys.executable, "-c", JOIN, head.address)


@contextmanager
def ray_head(*options: str) -> Iterator[Head]:
    """A head, with the token that its clients need in this process's environment."""
    port, client, dashboard, metrics, *agents = free_ports(6)
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # a socket's path has 107 bytes at most
    (folder / "token").write_text(TOKEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        head = Head(
            f"http://127.0.0.1:{dashboard}",
            f"127.0.0.1:{port}",
            f"ray://127.0.0.1:{client}",
            f"http://127.0.0.1:{metrics}/metrics",
            folder,
        )
        prefix = hiding(*own_code()) if can_hide() else []
        try:
            with process_of(
                *prefix, BIN / "ray", "start", "--head", "--block", "--object-store-memory=100000000",
                "--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={client}",
                "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--metrics-export-port={metrics}",
                f"--dashboard-agent-listen-port={agents[0]}", f"--dashboard-agent-grpc-port={agents[1]}",
                f"--temp-dir={folder}", *options,
            ) as process:  # fmt: skip
                wait_for(lambda: _answers(head), process)
                yield head
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _answers(head: Head) -> bool:
    """Whether the job API is up, the agent that begins jobs, and the server of Ray Client."""
    try:
        head.scrape()
        socket.create_connection(("127.0.0.1", int(head.client.rpartition(":")[2])), timeout=10).close()
        with urllib.request.urlopen(f"{head.dashboard}/api/version", timeout=10):  # noqa: S310 - loopback
            return True
    except urllib.error.HTTPError:
        return True  # it asks for the token
    except OSError:
        return False

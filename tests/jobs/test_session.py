"""The local Ray listens on the loopback address only; a cluster out of reach is one clear error."""

import os
import socket
import subprocess
import sys
from typing import Any

import psutil
import pytest
import ray

from jobs.session import LOCAL_ENVIRONMENT, SessionError, session
from pipeline.config import ResourcesConfig


def _listening(process: psutil.Process) -> set[str]:
    try:
        return {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    except psutil.NoSuchProcess:
        return set()


def test_no_server_of_the_local_ray_is_on_the_network(local_ray) -> None:
    ray.get(ray.remote(lambda: None).remote())
    addresses = set[str]().union(*(_listening(p) for p in psutil.Process().children(recursive=True)))
    assert addresses
    assert {ip.removeprefix("::ffff:") for ip in addresses} <= {"127.0.0.1", "::1"}


def run_python(code: str) -> str:
    """What a fresh interpreter prints, without the environment this test process set for its own Ray."""
    environment = {name: value for name, value in os.environ.items() if name not in LOCAL_ENVIRONMENT}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_sigterm_ends_the_block_like_ctrl_c_and_the_handler_comes_back() -> None:
    said = run_python(
        "import os, signal, threading, time\n"
        "from jobs.session import Terminated, session\n"
        "from pipeline.config import ResourcesConfig\n"
        "def mine(*_): pass\n"
        "signal.signal(signal.SIGTERM, mine)\n"
        "try:\n"
        "    with session(ResourcesConfig()):\n"
        "        import ray\n"
        "        waiting = ray.remote(lambda: time.sleep(60)).remote()\n"
        "        threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "        ray.get(waiting)\n"
        "except Terminated: print('stopped', signal.getsignal(signal.SIGTERM) is mine)"
    )
    assert said.strip() == "stopped True"


def test_a_cluster_out_of_reach_is_one_clear_error() -> None:
    said = run_python(
        "from jobs.session import SessionError, session\n"
        "from pipeline.config import ResourcesConfig\n"
        "try:\n"
        "    with session(ResourcesConfig(address='127.0.0.1:1')): pass\n"
        "except SessionError as error: print(error)"
    )
    assert said.startswith("Ray at 127.0.0.1:1 is out of reach: ")


@pytest.mark.parametrize(
    ("said", "failures", "attempts"),
    [
        ("Starting Ray client server failed. See x.err", 2, 3),
        ("Starting Ray client server failed.", 3, 3),
        ("no", 1, 1),
    ],
)
def test_a_connection_whose_server_died_at_once_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, said: str, failures: int, attempts: int
) -> None:
    """Ray's answer is made up here: its proxy loses a process at times, beside other work."""
    made = 0

    def init(**_: Any) -> None:
        nonlocal made
        made += 1
        if made <= failures:
            raise ConnectionAbortedError(f"Initialization failure from server: {said}")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        resources = ResourcesConfig(address=f"ray://127.0.0.1:{server.getsockname()[1]}")
        if failures < attempts:
            with session(resources):
                pass
        else:
            with pytest.raises(SessionError, match=said), session(resources):
                pass
    assert made == attempts


def test_ray_imported_too_early_is_refused_rather_than_put_on_the_network() -> None:
    said = run_python(
        "import ray\n"
        "from jobs.session import SessionError, session\n"
        "from pipeline.config import ResourcesConfig\n"
        "try:\n"
        "    with session(ResourcesConfig()): print('running')\n"
        "except SessionError as error: print(error)"
    )
    assert "imported before jobs.session" in said

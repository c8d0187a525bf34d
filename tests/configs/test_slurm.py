"""The Slurm script really run: stand-ins for Slurm's programs start its Ray head and worker on this machine."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from pipeline.datasets import SAMPLES
from pipeline.run import Run
from tests.e2e.command import REPOSITORY, write_config
from tests.e2e.ray_cluster import environment, free_ports, wait_for
from tests.pipeline.shard_factory import samples, tar

SCRIPT = REPOSITORY / "configs" / "clusters" / "slurm.sh"

STAND_INS = {
    "sbatch": 'while [ "${1#--}" != "$1" ]; do shift; done; exec bash "$@"',
    "scontrol": '[ "$*" = "show hostnames node[1-2]" ] && printf "node1\\nnode2\\n"',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "hostname": "echo 127.0.0.1",
}

# Nodes of a real cluster listen on the network: here on one of their own, which has no other machine.
LOOPBACK_ONLY = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@pytest.fixture
def slurm(tmp_path):
    """A function that submits the script with a command of parrotscope; the environment is that of a job on 2 nodes."""
    if subprocess.run([*LOOPBACK_ONLY, "true"], capture_output=True).returncode:
        pytest.skip("this system lets no process have a network of its own (unshare --net)")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, body in STAND_INS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    # This checkout's command, whatever is installed.
    (programs / "parrotscope").write_text(f'#!/bin/sh\nexec {sys.executable} -m jobs.cli "$@"\n')
    (programs / "parrotscope").chmod(0o755)
    dashboard, *agents = free_ports(5)
    memory = "--object-store-memory=100000000"
    apart = [f"{memory} --dashboard-agent-listen-port={port}" for port in agents[:2]]
    apart = [f"{options} --dashboard-agent-grpc-port={port}" for options, port in zip(apart, agents[2:], strict=True)]
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as ray_folder:
        variables = {
            **environment(),
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_CPUS_PER_TASK": "1",
            "RAY_HEAD_OPTIONS": f"--dashboard-port={dashboard} --temp-dir={ray_folder} {apart[0]}",
            "RAY_WORKER_OPTIONS": apart[1],
        }

        def submit(*command: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [*LOOPBACK_ONLY, "sbatch", "--nodes=2", SCRIPT, *command],
                cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip

        yield submit


def config(folder: Path, seconds: float = 0.0) -> str:
    for name in ("a", "b"):
        (folder / f"{name}.tar").write_bytes(tar(samples(3)))
    (folder / "met").mkdir()
    settings = {"folder": str(folder / "met"), "nodes": 2, "seconds": seconds}
    target = "tests.configs.meeting_spotter:MeetingSpotter"
    return str(write_config(folder, f"{folder}/*.tar", {"engine": "custom", "target": target, "settings": settings}))


def test_head_and_worker_do_the_command(slurm, tmp_path) -> None:
    process = slurm("extract", config(tmp_path), "--only", "spot")
    said = process.communicate(timeout=180)[0]
    assert process.returncode == 0, said
    assert "6 samples" in said
    assert len(list((tmp_path / "met").iterdir())) == 2
    assert Run(str(tmp_path / "run")).done(SAMPLES) == {"a", "b"}
    assert not list(tmp_path.glob(".ray-token-*"))


def test_a_preempted_job_stops_as_the_command_does_and_leaves_no_process(slurm, tmp_path) -> None:
    process = slurm("extract", config(tmp_path, seconds=30), "--only", "spot")
    wait_for(Run(str(tmp_path / "run")).exists, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143, said
    assert "parrotscope: stopped; the same command resumes." in said
    assert not psutil.wait_procs(family, 30)[1]


def test_a_command_that_fails_fails_the_job(slurm, tmp_path) -> None:
    process = slurm("extract", "nowhere.yaml")
    said = process.communicate(timeout=120)[0]
    assert (process.returncode, "No configuration file 'nowhere.yaml'" in said) == (1, True)


def test_bash_reads_it() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)

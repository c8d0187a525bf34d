"""What a job leaves tidy when it ends well, though it had nothing to do."""

import os
import platform
import subprocess
import sys

from jobs.console import make_console
from jobs.job import Job, run_job
from pipeline.claims import claim
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES
from pipeline.run import Run
from pipeline.schema import IDENTITY


def test_what_killed_drivers_and_workers_left_is_removed(tmp_path) -> None:
    run, config = Run(str(tmp_path)), parse({"run": str(tmp_path), "input": {"shards": "*.tar"}})
    claim(run, config, SAMPLES, {})
    for shard in ("done", "of-another-job"):
        with run.part(SAMPLES, shard, IDENTITY):
            pass
    for shard, title in (("done", "extract"), ("of-another-job", "profile"), ("pending", "extract")):
        run.write_json({"shard": shard, "job": title, "errors": ["x"]}, "errors", f"{shard}.json")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    spools = [tmp_path / "samples" / f".{platform.node()}~{pid}~ab.tmp" for pid in (dead.pid, os.getpid())]
    for spool in spools:
        spool.touch()
    run_job(Job("extract", run, config, (), [], (SAMPLES,), object), [], make_console())
    assert run.failed() == {"of-another-job", "pending"}
    assert [spool.exists() for spool in spools] == [False, True]

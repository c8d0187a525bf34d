"""On a real Ray cluster that has none of this code: jobs submitted and connected, metrics, a disk not shared."""

import re
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from ray.job_submission import JobSubmissionClient

from jobs.metrics import COUNTERS, GAUGES, PREFIX
from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.run import Run
from tests.e2e.command import BLANK, parrotscope, start, truth_spotter, write_config
from tests.e2e.ray_cluster import Head, can_hide, ray_head, ray_worker, wait_for
from tests.pipeline.shard_factory import samples, tar

PROFILES = Dataset("profiles", "main")
LABELS = ("command", "reason", "stage", "state")


@pytest.fixture(scope="module")
def head():
    # A GPU that Ray was told of, and torch does not find.
    with ray_head("--num-cpus=2", "--num-gpus=1") as running:
        yield running


@dataclass(frozen=True)
class Submitted:
    """The whole chain over the demo: its run, what the command printed, and the metrics as they were last.

    `metrics` are of the name and the labels that are not the same for all.
    """

    run: Run
    said: str
    metrics: dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def submitted(head, demo, tmp_path_factory) -> Submitted:
    folder = tmp_path_factory.mktemp("submitted")
    config = write_config(folder, f"{demo}/*.tar", truth_spotter(demo), run="parrots")
    process = start("submit", config.name, "--address", head.dashboard, "--shared-disk", folder=folder)
    run, metrics = Run(str(folder / "parrots")), {}
    while process.poll() is None:
        metrics |= scraped(head)
        time.sleep(0.5)
    out, error = process.communicate()
    assert process.returncode == 0, out + error
    deadline = time.monotonic() + 15  # Ray's agent is told every ten seconds
    while ("ray_parrotscope_samples_total", "profile") not in metrics and time.monotonic() < deadline:
        metrics |= scraped(head)
        time.sleep(0.5)
    return Submitted(run, out, metrics)


def scraped(head: Head) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(label for name in LABELS if (label := sample.labels.get(name)))): sample.value
        for family in text_string_to_metric_families(head.scrape())
        for sample in family.samples
        if sample.labels.get("run") == "parrots"
    }


def small_config(folder: Path, **sections: dict) -> Path:
    """Two shards of three samples."""
    for name in ("a", "b"):
        (folder / f"{name}.tar").write_bytes(tar(samples(3)))
    return write_config(folder, f"{folder}/*.tar", BLANK, **sections)


def test_a_submitted_chain_has_its_logs_and_rows_here(submitted, demo) -> None:
    said = submitted.said
    assert re.search(r"submit: profile of \S+/parrots is job raysubmit_\w+ at http://127.0.0.1:", said)
    assert "extract: 4 shards, 4 to do, the first is file:///" in said
    assert "CLIP embedded on cpu" in said
    assert "LAION-2B" in said
    assert re.search(r"submit: job raysubmit_\w+ succeeded$", said.strip())
    assert submitted.run.dataset(PROFILES).count_rows() == pq.read_metadata(demo / "truth.parquet").num_rows


def test_a_job_that_fails_fails_here_too(head, tmp_path) -> None:
    config = small_config(tmp_path)
    said = parrotscope(
        "submit", str(config), "--address", head.dashboard, "--job", "extract", "--shared-disk",
        "--set", "clip.precision=fp16", folder=tmp_path, status=1,
    )  # fmt: skip
    assert "parrotscope: clip.precision fp16 needs a GPU" in said
    assert re.search(r"(?m)^submit: job raysubmit_\w+ failed$", said)
    assert "runtime_env" not in said  # nor is anything of Ray's own
    assert not Path(tmp_path, "run").exists()


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(head, tmp_path, demo) -> None:
    write_config(tmp_path, f"{demo}/*.tar", truth_spotter(demo, seconds=0.5))
    process = start(
        "submit", "run.yaml", "--address", head.dashboard, "--job", "extract", "--only", "spot", "--shared-disk",
        folder=tmp_path,
    )  # fmt: skip
    run = Run(str(tmp_path / "run"))
    wait_for(run.exists, process)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    job = re.search(r"ray job stop --address http://\S+ (raysubmit_\w+)", said)[1]
    assert f"ray job logs --address {head.dashboard} --follow {job}" in said
    client = head.jobs()
    assert client.get_job_status(job) == "RUNNING"
    assert client.stop_job(job)
    deadline = time.monotonic() + 60
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert client.get_job_status(job) == "STOPPED"
    assert "stopped; the same command resumes" in client.get_job_logs(job)


@pytest.mark.parametrize("way", ["address", "client"])
def test_a_driver_that_connects_brings_its_code(head, tmp_path, way) -> None:
    config = small_config(tmp_path, resources={"address": getattr(head, way)})
    try:
        said = parrotscope("extract", str(config), "--only", "clip", folder=tmp_path)
    except AssertionError as error:
        error.add_note(head.said_of_clients())  # where the server of a client ends, Ray says no more than that
        raise
    assert "6 samples" in said
    assert Run(str(tmp_path / "run")).done(SAMPLES) == {"a", "b"}


def test_metrics_are_those_of_the_run(submitted) -> None:
    run, metrics = submitted.run, submitted.metrics
    assert {name.removesuffix("_total") for name, *_ in metrics} == {
        f"ray_{PREFIX}{name}" for name in (*COUNTERS, *GAUGES) if name != "retries"
    }
    told = {}
    for dataset, command in ((Dataset("spotted", "main"), "extract"), (PROFILES, "profile")):
        told["samples_total", command] = run.dataset(dataset).count_rows()
        told |= {("shards", command, state): 4 if state == "done" else 0 for state in ("left", "done", "failed")}
        seconds = Counter()
        for shard in run.done(dataset):
            seconds.update(run.footer(dataset, shard)["seconds"])
        told |= {("stage_seconds_total", command, stage): value for stage, value in seconds.items()}
    for reason in run.dataset(REJECTS).to_table()["reason"].to_pylist():
        key = ("rejects_total", "extract", reason)
        told[key] = told.get(key, 0) + 1
    assert {key: metrics[f"ray_{PREFIX}{key[0]}", *key[1:]] for key in told} == pytest.approx(told, abs=0.01)
    assert sum(name.endswith("rejects_total") for name, *_ in metrics) == sum(
        name == "rejects_total" for name, *_ in told
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_absent_is_one_sentence(head, tmp_path) -> None:
    config = small_config(tmp_path, resources={"address": head.address, "gpus_per_actor": 1})
    said = parrotscope("extract", str(config), "--only", "clip", folder=tmp_path, status=1)
    assert "parrotscope: resources.gpus_per_actor is 1, but torch sees no CUDA device on " in said
    assert not (tmp_path / "run").exists()


def test_a_node_with_another_disk_is_found_before_the_work(head, tmp_path) -> None:
    if not can_hide():
        pytest.skip("this system lets no process have mounts of its own (unshare --mount)")
    config = small_config(tmp_path, resources={"address": head.address})
    with ray_worker(head, tmp_path) as worker:
        client = head.jobs()
        wait_for(lambda: len(_nodes(client)) == 2, worker)
        said = parrotscope("extract", str(config), "--only", "clip", folder=tmp_path, status=1)
    assert "is a folder of this machine alone: 1 of 1 other nodes do not see it" in said
    assert not (tmp_path / "run").exists()


def _nodes(client: JobSubmissionClient) -> list[dict]:
    answer = client._do_request("GET", "/api/v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=ALIVE")
    return answer.json()["data"]["result"]["result"]

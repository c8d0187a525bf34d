"""One round: the ordinary command in processes of its own, disturbed as planned, until it ends well; then the check."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.run import Run
from tests.e2e.command import REPOSITORY
from tests.faults.cluster import FaultyCluster, wait_until
from tests.faults.disk import Disk
from tests.faults.plan import HARMLESS, Fault, Round
from tests.faults.world import EXTRACTED, World, parts
from tests.faulty_proxy import FaultyProxy

COMMANDS = 6
"""How often the same command may be started in a round; the faults end before the last two."""

HANG_SECONDS = 240.0
"""A command that long without a new part hangs."""

SPOT_SECONDS = 0.02
WORKER_PAUSE_SECONDS = 3.0
NODE_PAUSE_SECONDS = 7.0
DISK_BYTES = 60_000
"""At most left free when the disk fills: parts of five small shards have a few tens of thousand bytes."""

TICK_SECONDS = 0.02


@dataclass(frozen=True)
class Stage:
    """What the rounds of a campaign share."""

    folder: Path
    cluster: FaultyCluster
    disk: Disk
    proxy: FaultyProxy
    world: World


@dataclass
class Result:
    """How a round went: `struck` counts the faults that happened by kind; no `problems`, no bug."""

    plan: Round
    events: list[str] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class HangError(Exception):
    """A command made no part for HANG_SECONDS."""


def play(stage: Stage, plan: Round) -> Result:
    """Play a round; where something is wrong, its folder stays, with the run in it."""
    return _Play(stage, plan).play()


class _Play:
    def __init__(self, stage: Stage, plan: Round) -> None:
        self._stage, self._plan = stage, plan
        self._result = Result(plan)
        self._folder = stage.folder / f"round-{plan.number}"
        self._folder.mkdir()
        name = f"{plan.seed}-{plan.number}"
        url = f"s3://bucket/runs/{name}" if plan.on_s3 else f"{stage.disk.folder}/run-{name}"
        self._run = Run(url)
        self._config = stage.world.config(self._folder, url, plan.on_s3, stage.cluster.address, SPOT_SECONDS)
        self._waiting = list(plan.faults)
        self._drivers: list[subprocess.Popen[bytes]] = []
        self._due: float | None = None

    def play(self) -> Result:
        result, stage = self._result, self._stage
        stage.cluster.restore()
        stage.proxy.arm(self._plan.storage)
        self._began = time.monotonic()
        try:
            self._until_done()
        except HangError:
            result.problems.append("a command hangs")
        finally:
            stage.proxy.disarm()
            for fault in stage.proxy.struck:
                result.struck[fault.kind] += 1
                result.events.append(f"  after request {fault.after}: {fault.kind} ({fault.amount:.2f})")
            stage.disk.free()
            for driver in self._drivers:
                driver.kill()
                driver.wait()
        if not result.problems:
            result.problems += self._left_behind()
            if {"kill node", "pause node"} & set(result.struck):
                # A worker that is taken for lost lives on for a moment, beyond the command's end perhaps; what it
                # was writing is for the next command to sweep.
                self._run.sweep(*EXTRACTED)
            result.problems += stage.world.differences(self._run, self._plan.command)
        result.seconds = time.monotonic() - self._began
        if not result.problems:
            shutil.rmtree(self._folder)
        if self._run.exists():
            if result.problems:
                self._run.fs.get(self._run.root, f"{self._folder}/run", recursive=True)
            self._run.fs.rm(self._run.root, recursive=True)
        return result

    def _until_done(self) -> None:
        """Start the command again until it ends well."""
        result = self._result
        for result.commands in range(1, COMMANDS + 1):
            if result.commands == COMMANDS - 1:
                self._waiting.clear()
                self._stage.proxy.disarm()
            self._start()
            statuses = self._follow()
            self._stage.disk.free()
            self._note(f"ended with {statuses}")
            if any(statuses) and HARMLESS.issuperset(result.struck) and not self._stage.proxy.struck:
                result.problems.append(f"harmless faults, and the command ended with {statuses}")
            if not any(statuses):
                break
        else:
            result.problems.append(f"the command did not end well in {COMMANDS} tries")

    def _start(self) -> None:
        name = f"driver-{self._result.commands}-{len(self._drivers)}"
        with open(self._folder / f"{name}.out", "wb") as out, open(self._folder / f"{name}.err", "wb") as error:
            command = [sys.executable, "-m", "jobs.cli", *self._plan.command, str(self._config)]
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
            driver = subprocess.Popen(command, cwd=self._folder, env=environment, stdout=out, stderr=error)
        self._drivers.append(driver)

    def _follow(self) -> list[int]:
        """Let the faults strike while the drivers run; their exit statuses."""
        there, changed = self._parts(), time.monotonic()
        while any(driver.poll() is None for driver in self._drivers):
            self._stage.cluster.tend()
            if (now_there := self._parts()) != there:
                there, changed = now_there, time.monotonic()
            if time.monotonic() - changed > HANG_SECONDS:
                raise HangError
            if self._is_due(there):
                self._strike(self._waiting.pop(0), there)
            time.sleep(TICK_SECONDS)
        statuses = [driver.returncode for driver in self._drivers]
        self._drivers.clear()
        return statuses

    def _is_due(self, there: int) -> bool:
        """Whether the moment of the next fault has come; there must be a worker at it."""
        if not self._waiting or there < self._waiting[0].after:
            return False
        if self._due is None and self._stage.cluster.workers():
            self._due = time.monotonic() + self._waiting[0].delay
        if self._due is None or time.monotonic() < self._due:
            return False
        self._due = None
        return True

    def _strike(self, fault: Fault, there: int) -> None:
        cluster, amount = self._stage.cluster, fault.amount
        running = [driver for driver in self._drivers if driver.poll() is None]
        match fault.kind:
            case "kill worker" if cluster.workers():
                cluster.kill_worker(amount)
            case "pause worker" if cluster.workers():
                cluster.pause_worker(amount, amount * WORKER_PAUSE_SECONDS)
            case "kill node":
                cluster.kill_node(amount)
            case "pause node":
                cluster.pause_node(amount, NODE_PAUSE_SECONDS)
            case "add node":
                cluster.add_node()
            case "kill driver" if running:
                running[0].send_signal(signal.SIGKILL)
            case "stop driver" if running:
                running[0].send_signal(signal.SIGTERM)
            case "second driver":
                self._start()
            case "fill disk" if self._stage.disk.refusal is None:
                self._stage.disk.fill(int(amount * DISK_BYTES))
            case _:
                self._note(f"{fault.kind}: nothing to strike")
                return
        self._result.struck[fault.kind] += 1
        self._note(f"{there} parts: {fault}")

    def _parts(self) -> int:
        if not self._plan.on_s3:
            return parts(self._run)
        return sum(path.endswith(".parquet") and path.count("/") > 4 for path in self._stage.proxy.uploads)

    def _note(self, event: str) -> None:
        self._result.events.append(f"  {time.monotonic() - self._began:6.2f} s  {event}")

    def _left_behind(self) -> list[str]:
        """Processes and temporary files that are there when everything has ended."""
        cluster = self._stage.cluster
        cluster.restore()
        wait_until(lambda: not cluster.workers(), 20)
        told = [f"process {process.cmdline()} is left" for process in cluster.workers()]
        spools = [str(file) for file in Path(os.environ["TMPDIR"]).rglob("*.tmp")]
        return told + [f"{spool} is left" for spool in spools]

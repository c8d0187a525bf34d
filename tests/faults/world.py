"""What a campaign's rounds read, and the undisturbed run that they are held against."""

import gzip
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import yaml
from rich.console import Console

from jobs.status import print_status
from pipeline.datasets import CLUSTER_FACTS, REJECTS, SAMPLES, Dataset
from pipeline.demo.shards import draw_demo
from pipeline.run import Run
from tests.faults.plan import COMMANDS, SHARDS

EMBEDDINGS, SPOTTED, CLUSTERS, PROFILES = (
    Dataset(kind, "main") for kind in ("embeddings", "spotted", "clusters", "profiles")
)
EXTRACTED = (SAMPLES, REJECTS, SPOTTED, EMBEDDINGS, PROFILES)
BUCKET = "bucket/shards"


@dataclass(frozen=True)
class World:
    """Shards on disk and the same on S3, and the run of all jobs over them that nothing disturbed."""

    folder: Path
    reference: Run

    def config(self, folder: Path, run: str, on_s3: bool, address: str, seconds: float) -> Path:
        """The configuration of a run, in `folder`; the spotter takes `seconds` an image."""
        spotter = {"engine": "custom", "target": "tests.faults.digest_spotter:DigestSpotter"}
        values = {
            "run": run,
            "input": {"shards": f"s3://{BUCKET}/*" if on_s3 else f"{self.folder}/shards/*"},
            "clip": {"model": "embedded", "device": "cpu"},
            "spotting": {**spotter, "settings": {"seconds": seconds}},
            "cluster": {"k": 3, "pca_dim": 8, "min_points_per_centroid": 1},
            "resources": {"address": address},
        }
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump(values))
        return file

    def differences(self, run: Run, command: Sequence[str]) -> list[str]:
        """In what a finished run differs from the undisturbed one, in sentences."""
        made = EXTRACTED[: COMMANDS[tuple(command)]]
        folders = {dataset.kind for dataset in made} | ({"clusters"} if PROFILES in made else set())
        expected = {name for name in files(self.reference) if "/" not in name or name.split("/")[0] in folders}
        found = files(run)
        told = [f"{name} is left" for name in sorted(found - expected)]
        told += [f"{name} is missing" for name in sorted(expected - found)]
        for dataset in made:
            for shard in sorted(run.done(dataset) & self.reference.done(dataset)):
                rows, wanted = (which.read_part(dataset, shard) for which in (run, self.reference))
                if not rows.equals(wanted):
                    told.append(f"{dataset} of shard {shard}: {rows.num_rows} rows are not the {wanted.num_rows} rows")
        told += [f"shard {shard} has an error file" for shard in sorted(run.failed())]
        if [shard.id for shard in run.shards()] != [shard.id for shard in self.reference.shards()]:
            told.append("shards.parquet names other shards")
        if PROFILES in made:
            one, other = (which.read_json(CLUSTERS, CLUSTER_FACTS)["digest"] for which in (run, self.reference))
            told += [] if one == other else ["the clusters are others"]
        return told + _status_differences(run, made)


def draw_world(folder: Path, seed: int) -> World:
    """Draw the shards: three sound tars with hostile samples in them, one that is cut, one that is gzipped."""
    shards = folder / "shards"
    draw_demo(folder / "drawn", SHARDS, 12, seed)
    shards.mkdir()
    for number, file in enumerate(sorted((folder / "drawn").glob("*.tar"))):
        data = file.read_bytes()
        if number == 3:
            data = data[: len(data) * 2 // 3]
        (shards / file.name).write_bytes(data)
    last = shards / file.name
    last.with_suffix(".tar.gz").write_bytes(gzip.compress(last.read_bytes(), mtime=0))
    last.unlink()
    return World(folder, Run(str(folder / "reference")))


def upload(world: World) -> None:
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    for file in (world.folder / "shards").iterdir():
        fs.pipe_file(f"{BUCKET}/{file.name}", file.read_bytes())


def files(run: Run) -> set[str]:
    """Names of all files of a run, below it."""
    run.fs.invalidate_cache()
    return {name.removeprefix(run.root).lstrip("/") for name in run.fs.find(run.root)}


def parts(run: Run) -> int:
    """How many parts a local run has."""
    return sum(1 for file in Path(run.root).glob("*/**/[!.]*.parquet"))


def _status_differences(run: Run, made: Sequence[Dataset]) -> list[str]:
    """What `parrotscope status` says is not done."""
    console: Any = Console(file=io.StringIO(), width=200)
    print_status(run.url, console)
    said = console.file.getvalue()
    lines = [rf"^│ {dataset} +│ +{SHARDS} +│ +0 +│" for dataset in made if dataset != REJECTS] + ["^failed shards: 0$"]
    return [f"status does not say {line}: {said}" for line in lines if not re.search(line, said, re.MULTILINE)]

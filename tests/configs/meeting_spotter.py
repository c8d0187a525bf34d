"""A spotter that is ready when workers on several nodes are: proof that all of them are at work."""

import time
from pathlib import Path

import ray

from tests.e2e.blank_spotter import BlankSpotter


class MeetingSpotter(BlankSpotter):
    """Leaves its node's id in a folder, and waits there for `nodes` of them; then takes `seconds` an image."""

    def __init__(self, threads: int, device: str, folder: str, nodes: int, seconds: float = 0.0) -> None:
        super().__init__(threads, device)
        self._seconds = seconds
        Path(folder, ray.get_runtime_context().get_node_id()).touch()
        deadline = time.monotonic() + 120
        while len(list(Path(folder).iterdir())) < nodes:
            if time.monotonic() > deadline:
                raise RuntimeError("the others did not come")
            time.sleep(0.1)

    def spot(self, images):
        time.sleep(self._seconds * len(images))
        return super().spot(images)

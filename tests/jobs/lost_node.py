"""Run by itself: a node is lost with its worker on the way; prints the tries of its shard and what became of it."""

import os
import time
from pathlib import Path

from jobs.search import Search
from jobs.session import LOCAL_ENVIRONMENT
from pipeline.config import ResourcesConfig

os.environ.update(LOCAL_ENVIRONMENT)  # before Ray is imported: it then keeps to the loopback address

import ray
from ray.cluster_utils import Cluster

from jobs.pool import Pool
from jobs.tasks import Task


class Sleeper:
    """Holds its shard until its node is lost; another worker ends it at once."""

    def ready(self) -> None:
        pass

    def work(self, board: object, folder: str, crashes: object) -> dict[str, int]:
        began = Path(folder, "began")
        if not began.exists():
            began.write_text(ray.get_runtime_context().get_node_id())
            time.sleep(600)
        return {"rows": 1}


class Losing:
    """Ends the node on which the work has begun, and adds another."""

    def __init__(self, cluster: Cluster, folder: str) -> None:
        self.cluster = cluster
        self.began = Path(folder, "began")
        self.lost = False

    def running(self, *_: object) -> None:
        if not self.lost and self.began.exists() and (name := self.began.read_text()):
            (node,) = (node for node in self.cluster.worker_nodes if node.node_id == name)
            self.cluster.remove_node(node, allow_graceful=False)
            self.cluster.add_node(num_cpus=1)
            self.lost = True

    def finished(self, task: Task, counts: dict[str, int]) -> None:
        print("finished", counts["rows"], task.tries, task.search == Search(), task.errors)

    def retried(self, task: Task) -> None:
        pass

    def failed(self, task: Task) -> None:
        print("failed", task.errors)


def main(folder: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    task = Task("a", (folder,), Search())
    Pool(Sleeper, (), lambda _: None, ResourcesConfig(attempts=1)).run([task], Losing(cluster, folder))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(os.environ["FOLDER"])

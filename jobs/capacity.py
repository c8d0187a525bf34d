"""How many actors a cluster holds, now or when it has grown."""

from collections.abc import Mapping

import ray

from pipeline.config import ResourcesConfig


class PoolError(RuntimeError):
    """No worker can do the job at all; the message says why."""


def check_room(resources: ResourcesConfig) -> None:
    """Fail at the start when no node could ever hold one actor.

    Raises:
        PoolError: that is so.
    """
    if resources.autoscale:
        return
    need = {"CPU": resources.cpus_per_actor, "GPU": resources.gpus_per_actor}
    nodes = _nodes(resources.pool)
    if not any(_held(node, resources) for node in nodes):
        raise PoolError(
            f"No node has the {need['CPU']} CPUs and {need['GPU']:g} GPUs of one actor; "
            f"the nodes of {resources.pool or 'the cluster'}: {[{k: n.get(k, 0) for k in need} for n in nodes]}."
        )


def actors_wanted(resources: ResourcesConfig) -> int:
    """As many actors as the cluster holds now, or, where it grows on demand, may."""
    if resources.autoscale:
        return resources.max_actors or 0
    size = sum(_held(node, resources) for node in _nodes(resources.pool))
    return min(size, resources.max_actors or size)


def _held(node: Mapping[str, float], resources: ResourcesConfig) -> int:
    """How many actors a node of these resources holds."""
    size = int(node.get("CPU", 0) // resources.cpus_per_actor)
    if resources.gpus_per_actor:
        size = min(size, int(node.get("GPU", 0) / resources.gpus_per_actor))
    return size


def _nodes(pool: str | None) -> list[Mapping[str, float]]:
    """Resources of the nodes that actors may run on."""
    return [
        node["Resources"]
        for node in ray.nodes()
        if node["Alive"] and (pool is None or node["Labels"].get("pool") == pool)
    ]

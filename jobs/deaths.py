"""What ended a worker, as far as Ray tells."""

import re

from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError

_LOST_NODE = "its node has died"
"""Ray's words for an actor that went with its node; there is no type of error for it."""


_AS_DEATHS = {"MemoryError", "OutOfMemoryError", "AcceleratorError"}
"""Python's and torch's; by name, as the driver does without torch."""


def as_a_death(error: Exception) -> bool:
    """Whether an error is what is left of a process that a sample was too much for: of its memory, or of its GPU."""
    return type(error).__name__ in _AS_DEATHS


def by_itself(error: RayError) -> bool:
    """Whether the process ended, and not its node; one that is unavailable may live, on a node out of reach."""
    return not isinstance(error, ActorUnavailableError) and _LOST_NODE not in str(error)


def detail(error: RayError) -> str:
    """What Ray knows of an actor's end, without its page of addresses and of causes in general."""
    if isinstance(error, OutOfMemoryError):
        return "Ray ended it, as its node ran low on memory"
    told = re.search(r"Worker exit detail: (.+?)(?: Some common causes|$)", str(error), re.MULTILINE)
    return told[1] if told else str(error).strip().splitlines()[-1]

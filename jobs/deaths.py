"""What Ray tells of an actor's end."""

import re

from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError

_LOST_NODE = "its node has died"
"""Ray's words for an actor that went with its node; there is no type of error for it."""


def by_itself(error: RayError) -> bool:
    """Whether the process ended, and not its node; one that is unavailable may live, on a node out of reach."""
    return not isinstance(error, ActorUnavailableError) and _LOST_NODE not in str(error)


def detail(error: RayError) -> str:
    """What Ray knows of an actor's end, without its page of addresses and of causes in general."""
    if isinstance(error, OutOfMemoryError):
        return "Ray ended it, as its node ran low on memory"
    told = re.search(r"Worker exit detail: (.+?)(?: Some common causes|$)", str(error), re.MULTILINE)
    return told[1] if told else str(error).strip().splitlines()[-1]

"""Fingerprints: what a dataset's content depends on, and nothing else.

A fingerprint's fields are a dataset's own science settings and the fingerprints of its inputs. CPUs, pools,
retries, paths and logging never enter; versions of software are recorded beside it.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

Fields = Mapping[str, Any]

SOFTWARE = (
    "parrotscope",
    "torch",
    "open_clip_torch",
    "rapidocr",
    "openvino",
    "easyocr",
    "faiss-cpu",
    "pillow",
    "pyarrow",
    "rapidfuzz",
    "ray",
)


class FingerprintError(RuntimeError):
    """A dataset would be continued under other settings than it was begun with."""


def digest(fields: Fields) -> str:
    """128-bit blake2b of the fields' canonical JSON, as 32 hex digits."""
    canonical = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def difference(stored: Fields, current: Fields) -> tuple[str, Any, Any] | None:
    """The first field (dotted path) whose value differs, with both values; None if there is none."""
    for key in sorted({*stored, *current}):
        old, new = stored.get(key), current.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if nested := difference(old, new):
                return (f"{key}.{nested[0]}", *nested[1:])
        elif old != new:
            return key, old, new
    return None


def software() -> dict[str, str]:
    """Versions of Python and of the packages whose change may change a result."""
    versions = {"python": platform.python_version()}
    for name in SOFTWARE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions

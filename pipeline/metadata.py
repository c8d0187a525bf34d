"""A sample's json: parsed within bounds, and its kept keys read as the types of their columns."""

import json
import math
from collections.abc import Mapping
from typing import Any

from pipeline.schema import MetadataStatus

_INT64 = range(-(2**63), 2**63)


def parse_metadata(data: bytes | None) -> tuple[dict[str, Any], MetadataStatus]:
    """The JSON object in `data`; empty and INVALID if there is none, or it was too large to read (None)."""
    try:
        # Not json.loads(bytes): that guesses UTF-16 and lets surrogates pass.
        parsed = json.loads((data or b"").decode("utf-8-sig"))
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        return {}, MetadataStatus.INVALID
    return parsed, MetadataStatus.OK


def typed_metadata(
    metadata: Mapping[str, Any], keys: Mapping[str, str]
) -> tuple[dict[str, str | int | float | bool | None], bool]:
    """The kept keys of a sample's json, each read as its type, and whether one of them could not be.

    `keys`: json key to a type name of `schema.METADATA_TYPES`. A key that is absent, null or NaN (pandas'
    missing value) is None; one that cannot be read as its type is None too, and a mismatch. Numbers may stand
    in strings, int64 may be written as a whole float; as a string, what is none becomes its JSON text.
    """
    values: dict[str, str | int | float | bool | None] = {}
    mismatch = False
    for key, kind in keys.items():
        value = metadata.get(key)
        try:
            missing = value is None or (isinstance(value, float) and math.isnan(value))
            values[key] = None if missing else _READERS[kind](value)
        except (ValueError, OverflowError, RecursionError):
            values[key] = None
            mismatch = True
    return values, mismatch


def _string(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not is_utf8(text):
        raise ValueError("lone surrogates")
    return text


def _number(value: Any) -> int | float:
    if isinstance(value, str):
        if not value.isascii() or "_" in value:  # Python's own notation
            raise ValueError("not a number")
        try:
            value = int(value)
        except ValueError:
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    return value


def _int64(value: Any) -> int | None:
    number = _number(value)
    if math.isnan(number):
        return None
    if number != int(number) or int(number) not in _INT64:
        raise ValueError("not a whole number of int64")
    return int(number)


def _float64(value: Any) -> float | None:
    number = float(_number(value))
    if math.isinf(number):
        raise ValueError("infinite")
    return None if math.isnan(number) else number


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not a bool")
    return value


_READERS = {"string": _string, "int64": _int64, "float64": _float64, "bool": _bool}


def is_utf8(text: str) -> bool:
    """Whether Arrow can hold `text`: it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

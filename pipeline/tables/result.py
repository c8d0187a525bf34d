"""A table as it is handed out: rows, what they show, and what made them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Result:
    """One table of a run, named and explained."""

    name: str
    """Of its files: letters, digits and underscores."""
    title: str
    table: pa.Table
    made_by: Callable[..., Any]
    """The function that computed it."""
    sql: str = ""
    """The query it ran over the profiles."""
    notes: tuple[str, ...] = ()
    """What a reader must know: rows that are in no share, methods, warnings."""
    shown: pa.Table | None = None
    """The same for people, its values formatted; None: as `table`."""

    @property
    def function(self) -> str:
        return f"{self.made_by.__module__}.{self.made_by.__qualname__}"

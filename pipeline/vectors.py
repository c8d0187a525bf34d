"""Embeddings as numpy matrices and as Arrow columns."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Singles: TypeAlias = npt.NDArray[np.float32]


def to_column(embeddings: Floats, stored_as: str, present: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """(n, d) as fixed-size lists of float16 or float32, null where `present`, (n,), is given and false."""
    flat = pa.array(embeddings.astype(stored_as).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(
        flat, embeddings.shape[1], mask=None if present is None else pa.array(~present)
    )


def to_matrix(column: pa.ChunkedArray) -> Floats:
    """The embeddings of a column that are not null, (m, d), in the type they are stored as."""
    # Not `values`, which would give what lies beneath the nulls as well.
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(-1, column.type.list_size)

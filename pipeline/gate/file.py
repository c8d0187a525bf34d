"""The file of a text gate: what it decides by, what it was learnt from, and what was measured of it."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from pipeline.fingerprint import Fields, difference, digest
from pipeline.gate import GateError
from pipeline.section import Number, Section, Whole
from pipeline.storage import locate, storage_errors
from pipeline.vectors import Floats

MAX_BYTES = 4 << 20
MAX_DIM = 65_536

BLOCK = 8192
"""Rows whose scores are computed at once: 34 MB at 512 dimensions."""

Doubles = npt.NDArray[np.float64]
Share = Field(ge=0, le=1)


class Measured(Section):
    """What the gate does to held-out images: those by which neither its weights nor its threshold were chosen."""

    images: Whole = Field(gt=0)
    with_text: Whole = Field(gt=0)
    missed: Whole = Field(ge=0, description="images with text that it skips")
    recall: Number = Share
    recall_low_95: Number = Share
    recall_high_95: Number = Share
    word_recall: Number = Field(ge=0, le=1, description="share of the spotted words that are in images it lets through")
    skipped: Number = Field(ge=0, le=1, description="share of all images that it skips")


class Gate(Section):
    """A linear classifier on L2-normalised image embeddings: an image that scores below the threshold is skipped."""

    format: Literal["parrotscope text gate"] = "parrotscope text gate"
    version: Literal[1] = 1
    clip: Mapping[str, Any] = Field(description="what the embeddings depend on, as `clip_part` gives it")
    spotter: Mapping[str, Any] = Field(description="fingerprint of the spotter that said where text is")
    wanted_recall: Number = Field(gt=0, lt=1)
    threshold: Number
    bias: Number
    weights: tuple[Number, ...] = Field(min_length=1, max_length=MAX_DIM)
    rows: Mapping[str, Whole] = Field(description="what was read, and what of it was learnt from")
    measured: Measured

    @model_validator(mode="after")
    def _directed(self) -> "Gate":
        if not any(self.weights):
            raise ValueError("its weights are zero")
        return self

    def fields(self) -> dict[str, Any]:
        """What spotted text depends on that was spotted through this gate, and how much of it is missing."""
        told = self.measured.model_dump(include={"recall", "recall_low_95", "recall_high_95", "word_recall"})
        return {"digest": digest(self.model_dump(mode="json")), **told}

    def told(self) -> str:
        """What it does, in a clause."""
        seen = self.measured
        return f"gate of recall {seen.recall:.2%} that skipped {seen.skipped:.1%} of {seen.images:,} held-out images"

    def check_embeddings(self, fields: Fields, dim: int) -> None:
        """Raise a GateError unless embeddings of this fingerprint and so many dimensions are what it knows."""
        _refuse("embeddings", self.clip, clip_part(fields))
        if dim != len(self.weights):
            raise GateError(f"The gate has weights for {len(self.weights)} dimensions, and embeddings have {dim}.")

    def check_spotter(self, fields: Fields) -> None:
        """Raise a GateError unless this is the fingerprint of the spotter that the gate learnt from."""
        _refuse("text", self.spotter, fields)


def clip_part(fields: Fields) -> dict[str, Any]:
    """Of the fingerprint of embeddings what makes those of one image: not the samples, nor how they are stored.

    Imported embeddings are told apart by the names of what made them, not by the files they came in.
    """
    return {name: value for name, value in fields.items() if name not in ("samples", "stored_as", "imported")}


def spotter_part(fields: Fields) -> dict[str, Any]:
    """Of the fingerprint of spotted text what is the spotter's."""
    return {name: value for name, value in fields.items() if name not in ("samples", "gate")}


def scores(embeddings: Floats, weights: Doubles, bias: float) -> Doubles:
    """Log odds of text for embeddings (n, d) of any length: float64 (n,), NaN for one without a direction.

    A row's score does not depend on the rows beside it: no matrix product, whose rounding would.
    """
    found = np.empty(len(embeddings))
    for start in range(0, len(embeddings), BLOCK):
        block = embeddings[start : start + BLOCK].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            found[start : start + BLOCK] = (block * weights).sum(axis=1) / np.sqrt((block * block).sum(axis=1)) + bias
    return found


def read_gate(url: str) -> Gate:
    """The gate in a file or at a URL.

    Raises:
        GateError: it is not there, or no gate.
        OSError: the storage failed.
    """
    fs, path = locate(url)
    try:
        with storage_errors(url), fs.open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise GateError(f"spotting.gate: there is no file {url}; `parrotscope gate` makes one.") from None
    if len(data) > MAX_BYTES:
        raise GateError(f"spotting.gate: {url} is no gate: it has more than {MAX_BYTES >> 20} MB.")
    try:
        return Gate.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise GateError(f"spotting.gate: {url} is no gate: {place and f'{place}: '}{first['msg']}.") from None


def to_bytes(gate: Gate) -> bytes:
    """The file's content: JSON, its numbers written so that they are read as the same ones."""
    return json.dumps(gate.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False).encode()


def _refuse(what: str, learnt: Fields, here: Fields) -> None:
    if field := difference(learnt, json.loads(json.dumps(here))):
        name, old, new = field
        raise GateError(
            f"The gate was learnt from {what} of {name} = {old!r}, here it is {new!r}: what was measured of it would "
            "not hold. Learn one from a part of this run."
        )

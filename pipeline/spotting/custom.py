"""A spotter of the user's own: loaded from its import path, and nothing it says goes into a dataset unchecked."""

import json
from collections.abc import Sequence
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np

from pipeline.schema import SpotStatus
from pipeline.spotting import MAX_MESSAGE, Image, Spotter, SpotterError, Spotting, Word, attempt
from pipeline.spotting.boxes import to_polygon
from pipeline.spotting.config import CustomConfig


class CustomSpotter:
    """The spotter that `config.target` makes, held to the contract of `Spotter`."""

    def __init__(self, config: CustomConfig, threads: int, device: str) -> None:
        """Import the target and make the spotter.

        Raises:
            SpotterError: it cannot be made, is no `Spotter`, or its fingerprint is not json-able.
        """
        self._target = config.target
        module, _, name = config.target.partition(":")
        try:
            make = attrgetter(name)(import_module(module))
            spotter: object = make(threads=threads, device=device, **config.settings)
            if not isinstance(spotter, Spotter):
                raise TypeError("it needs the methods fingerprint() and spot(images)")
            self._spotter: Spotter = spotter
            self._fingerprint = _json_able(spotter.fingerprint())
        except Exception as error:  # code of the user's raises anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise SpotterError(f"spotting.target {config.target} cannot be loaded: {reason}") from error

    def fingerprint(self) -> dict[str, Any]:
        return self._fingerprint

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        """One outcome per image; a spotting or a word that is not as it should be fails its image.

        Raises:
            SpotterError: not one spotting per image.
        """
        spottings: object = self._spotter.spot(images)
        if not isinstance(spottings, list) or len(spottings) != len(images):
            found = len(spottings) if isinstance(spottings, list) else f"a {type(spottings).__name__}"
            raise SpotterError(
                f"spotting.target {self._target} must give a list of {len(images)} spottings, one an image, "
                f"and gave {found}."
            )
        return [_checked(spotting, image) for spotting, image in zip(spottings, images, strict=True)]


def _json_able(fields: object) -> dict[str, Any]:
    """The fields, if they are what they will be when read from JSON; a tuple is not, nor NaN, nor a key 1."""
    if not isinstance(fields, dict) or json.loads(json.dumps(fields, allow_nan=False)) != fields:
        raise ValueError(f"its fingerprint is no dict that JSON keeps as it is: {fields!r}")
    return fields


def _checked(spotting: object, image: Image) -> Spotting:
    if isinstance(spotting, Spotting) and spotting.status is SpotStatus.FAILED:
        message = str(spotting.message).encode(errors="replace").decode()
        return Spotting(SpotStatus.FAILED, (), message[:MAX_MESSAGE])
    return attempt(lambda image: _words(spotting, image), image)


def _words(spotting: object, image: Image) -> tuple[Word, ...]:
    if not isinstance(spotting, Spotting) or spotting.status is not SpotStatus.OK:
        raise TypeError(f"no Spotting that is ok or failed: {spotting!r}")
    height, width = image.shape[:2]
    return tuple(_word(word, width, height) for word in spotting.words)


def _word(word: object, width: int, height: int) -> Word:
    if not isinstance(word, Word) or not isinstance(word.text, str):
        raise TypeError(f"no Word with a text: {word!r}")
    text = word.text.strip()
    if not text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"the text of a word is empty or has half a surrogate pair: {text!r}")
    confidence = float(word.confidence)
    if not 0 <= confidence <= 1:
        raise ValueError(f"the confidence of {text!r} is not in [0, 1]: {confidence}")
    points = np.asarray(word.polygon, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"the polygon of {text!r} is no three or more points (x, y): {points.tolist()}")
    return Word(text, confidence, to_polygon(points, width, height))

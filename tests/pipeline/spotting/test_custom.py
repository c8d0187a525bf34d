"""A spotter of the user's own: what cannot be loaded is named, and what it says is checked."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.schema import SpotStatus
from pipeline.spotting import Image, SpotterError, Spotting, Word
from pipeline.spotting.config import CustomConfig
from pipeline.spotting.custom import CustomSpotter

PIXELS = np.zeros((20, 30, 3), np.uint8)  # 30 wide, 20 high
BOX = np.array([[1, 2], [9, 2], [9, 6]], np.int16)
GOOD = Spotting(SpotStatus.OK, (Word("fine", 0.5, BOX),))


class Parrot:
    """Says of every image, and as its fingerprint, what it is told to."""

    def __init__(self, threads: int, device: str, says: Any = (), fields: Any = None) -> None:
        self._says, self._fields = says, {} if fields is None else fields

    def fingerprint(self) -> Any:
        return self._fields

    def spot(self, images: Sequence[Image]) -> Any:
        return self._says


class Mute:
    def __init__(self, threads: int, device: str) -> None:
        pass


class Broken:
    def __init__(self, threads: int, device: str) -> None:
        raise OSError("no weights\nanywhere")


def load(name: str = "Parrot", module: str = __name__, **settings: Any) -> CustomSpotter:
    return CustomSpotter(CustomConfig(target=f"{module}:{name}", settings=settings), threads=1, device="cpu")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: load(module="nope"), "ModuleNotFoundError: No module named 'nope'"),
        (lambda: load("Nope"), "AttributeError: module .* has no attribute 'Nope'"),
        (lambda: load("Broken"), "OSError: no weights anywhere"),
        (lambda: load("Mute"), "it needs the methods fingerprint"),
        (lambda: load("Parrot", colour="green"), "TypeError: .*colour"),
    ],
)
def test_a_target_that_cannot_be_loaded_is_named_with_the_reason(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(SpotterError, match=rf"spotting.target \S+ cannot be loaded: .*{reason}"):
        make()


@pytest.mark.parametrize("value", [float("nan"), {1}, (1, 2), {1: 2}, np.float32(1)])
def test_a_fingerprint_that_json_would_change_is_refused(value: Any) -> None:
    with pytest.raises(SpotterError, match=r":Parrot cannot be loaded"):
        load(fields={"version": value})
    assert load(fields={"version": [1, 2.5]}).fingerprint() == {"version": [1, 2.5]}


@pytest.mark.parametrize("says", [[], [GOOD], [GOOD] * 3, None, iter([GOOD] * 2)])
def test_there_must_be_one_spotting_per_image(says: Any) -> None:
    with pytest.raises(SpotterError, match=r":Parrot must give a list of 2 spottings"):
        load(says=says).spot([PIXELS] * 2)


def test_a_good_word_is_stripped_and_clipped_into_the_image() -> None:
    far = Word(" far\n", 1, [[-400, 3.4], [99_999, 3.6], [12, 1e9]])  # type: ignore[arg-type]
    (spotting,) = load(says=[Spotting(SpotStatus.OK, (far,))]).spot([PIXELS])
    (word,) = spotting.words
    assert (spotting.status, word.text, word.confidence) == (SpotStatus.OK, "far", 1.0)
    assert word.polygon.tolist() == [[0, 3], [29, 4], [12, 19]]
    assert word.polygon.dtype == np.int16


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (Word(" ", 0.5, BOX), "text of a word is empty"),
        (Word("\udcff", 0.5, BOX), r"half a surrogate pair: '\\udcff'"),
        (Word(None, 0.5, BOX), "no Word with a text"),  # type: ignore[arg-type]
        (Word("w", 7.5, BOX), r"confidence of 'w' is not in \[0, 1\]: 7.5"),
        (Word("w", float("nan"), BOX), "confidence"),
        (Word("w", 0.5, BOX[:0]), "polygon of 'w'"),
        (Word("w", 0.5, BOX[:2]), "polygon of 'w'"),
        (Word("w", 0.5, BOX.ravel()), "polygon of 'w'"),
        (Word("w", 0.5, BOX * np.inf), "polygon of 'w'"),  # type: ignore[arg-type]
        (("w", 0.5, BOX), "no Word"),
    ],
)
def test_a_wrong_word_fails_its_image_only(word: Any, reason: str) -> None:
    wrong = Spotting(SpotStatus.OK, (*GOOD.words, word))
    first, failed, last = load(says=[GOOD, wrong, GOOD]).spot([PIXELS] * 3)
    assert [word.text for word in first.words + last.words] == ["fine", "fine"]
    assert (failed.status, failed.words) == (SpotStatus.FAILED, ())
    with pytest.raises(ValueError, match=reason):
        raise ValueError(failed.message)


def test_what_is_no_spotting_fails_its_image() -> None:
    says: list[Any] = ["text", None, Spotting("fine", ()), Spotting(SpotStatus.OK, None)]  # type: ignore[arg-type]
    for spotting in load(says=says).spot([PIXELS] * 4):
        assert spotting.status is SpotStatus.FAILED


def test_a_failure_keeps_its_message_and_loses_its_words() -> None:
    failed = Spotting(SpotStatus.FAILED, GOOD.words, "out of \udcff" + "!" * 1000)
    (spotting,) = load(says=[failed]).spot([PIXELS])
    assert (spotting.status, spotting.words) == (SpotStatus.FAILED, ())
    assert spotting.message == "out of ?" + "!" * 492

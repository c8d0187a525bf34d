"""The search for the samples of a shard that end their workers: what its deaths tell.

It goes on over several workers, each of which may die of what it is to find. The driver keeps it; a driver that is
started again begins anew.
"""

from collections import Counter
from dataclasses import dataclass, field

from pipeline.crashes import Crashes, Place

DEATHS_ALONE = 2
"""Workers that one sample must end, running by itself: one may have been ended from outside by chance."""

MAX_FOUND = 8
"""Samples and batches of one shard; with more, something is wrong that is none of the samples' fault."""

MAX_VAIN_DEATHS = 4
"""Deaths in a row of which a search learns nothing new before it is given up."""


@dataclass
class Search:
    """What is known of one shard's samples.

    Attributes:
        first: index from which on a search is to look, None while none is on.
        found: whether the last one found something.
    """

    first: int | None = None
    found: bool = False
    _samples: dict[int, str] = field(default_factory=dict)
    _singly: set[int] = field(default_factory=set)
    _deaths: Counter[int] = field(default_factory=Counter)
    _vain: int = 0

    @property
    def crashes(self) -> Crashes:
        return Crashes(dict(self._samples), frozenset(self._singly))

    @property
    def hopeless(self) -> str:
        """Why the shard is not to be tried again, empty while it is."""
        if len(self._samples) + len(self._singly) <= MAX_FOUND:
            return ""
        found = ", ".join(str(index) for index in sorted({*self._samples, *self._singly}))
        return f"more than {MAX_FOUND} samples end their workers ({found}): is memory short, or a library broken?"

    def begin(self, first: int) -> str:
        """A worker died with the sample `first` and some after it in flight; says what is done about it."""
        self.first, self.found, self._vain = first, False, 0
        return f"its samples are tried one by one from index {first} on"

    def died(self, place: Place | None, why: str) -> str:
        """A worker died while it searched at a place, or (None) between places; says what that tells.

        The search is over when the next try is to be a whole one: the batch was found, or nothing is to be found.
        """
        if place is not None and place.what == "batch":
            self._singly.add(place.index)
            self.first, self.found = None, True
            return f"the batch from index {place.index} on is run as single samples"
        if place is not None:
            self._deaths[place.index] += 1
            if self._deaths[place.index] >= DEATHS_ALONE:
                self._samples[place.index] = f"{why}; it was running alone, as it was when another worker ended"
                self._vain, self.found = 0, True
                return f"the sample of index {place.index} was running alone once more, and is left out"
        self._vain += 1
        if self._vain > MAX_VAIN_DEATHS:
            self.first = None
            return "the search for the sample is given up"
        return f"the sample of index {place.index} was running alone" if place else "no sample was running"

    def end(self) -> None:
        """The search is through without a death."""
        self.first = None

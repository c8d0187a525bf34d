"""What the rates of Table 1 would be with a spotter that reads everything: ours, the paper has nothing of it.

Shares of images with text are corrected after Rogan & Gladen (American Journal of Epidemiology 107, 1978), the
co-embedded text rate by the share of words that the spotter reads.

It assumes that
- sensitivity and specificity (of "this image holds text") and word recall were measured on images like these;
- errors do not depend on the caption: a caption word is read as often as any other word;
- no misread word is a caption word by chance, and images without text gain no co-embedded word;
- word recall counts the words of images that the spotter takes for empty as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.tables.table1 import Table1


@dataclass(frozen=True)
class SpotterAccuracy:
    """How well a spotter does, each value in [0, 1]; None: not known, and what needs it is not corrected."""

    sensitivity: float | None = None
    """Share of images with text in which it finds some."""
    specificity: float | None = None
    """Share of images without text in which it finds none."""
    word_recall: float | None = None
    """Share of the words in the images that it reads exactly."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name.replace('_', ' ')} is a share from 0 to 1, not {value}")
        if (self.sensitivity is None) != (self.specificity is None):
            raise ValueError("sensitivity and specificity correct only together: give both")

    @property
    def known(self) -> bool:
        return self != SpotterAccuracy()


def rogan_gladen(share: float | None, sensitivity: float, specificity: float) -> float | None:
    """The share of images that hold text from the share found; None where the spotter is no better than chance."""
    informative = sensitivity + specificity - 1
    if share is None or informative <= 0:
        return None
    return min(1.0, max(0.0, (share + specificity - 1) / informative))


def corrected(table: Table1, accuracy: SpotterAccuracy) -> Mapping[str, float | None]:
    """Attribute of `Table1` → its corrected value, of those that can be corrected.

    The rate of images with text is that of all images over the corrected share, so that the identity of the two
    holds. Rates over words of images with text and fuzzy rates are left: the captions of missed images are not
    known, and a fuzzy rate is a correction of its own.
    """
    found: dict[str, float | None] = {}
    share = None
    if accuracy.sensitivity is not None and accuracy.specificity is not None:
        share = rogan_gladen(table.text_share, accuracy.sensitivity, accuracy.specificity)
        found |= {"text_share": share, "without_text_share": None if share is None else 1 - share}
    if accuracy.word_recall is not None:
        found |= {name: _over(getattr(table, name), accuracy.word_recall) for name in ("cotr_macro", "cotr_micro")}
    if share and accuracy.word_recall is not None:
        found["cotr_macro_in_text"] = _over(found["cotr_macro"], share)
    return found


def _over(rate: float | None, divisor: float) -> float | None:
    return None if rate is None or not divisor else min(1.0, rate / divisor)

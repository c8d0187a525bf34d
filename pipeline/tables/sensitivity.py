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


def corrected(rates: Mapping[str, float | None], accuracy: SpotterAccuracy) -> Mapping[str, float | None]:
    """Attribute of `Table1` → its corrected value, of those that can be corrected.

    Every corrected value grows with the rate it comes from: the lower bounds of rates give the lower bounds of the
    corrected ones, the upper the upper; the accuracy is taken as exact. The rate of images with text keeps to the
    identity: times the corrected share it is that of all images. Rates over words of images with text and fuzzy
    rates are left: the captions of missed images are not known, and a fuzzy rate is a correction of its own.

    Args:
        rates: by the names of `intervals.RATES`: values, or their lower or their upper bounds.
        accuracy: of the spotter.
    """
    found: dict[str, float | None] = {}
    sensitivity, specificity, recall = accuracy.sensitivity, accuracy.specificity, accuracy.word_recall
    if recall is not None:
        found |= {name: _over(rates[name], recall) for name in ("cotr_macro", "cotr_micro")}
    if sensitivity is not None and specificity is not None:
        without = rates["without_text_share"]
        with_text = rogan_gladen(None if without is None else 1 - without, sensitivity, specificity)
        found["text_share"] = rogan_gladen(rates["text_share"], sensitivity, specificity)
        found["without_text_share"] = None if with_text is None else 1 - with_text
        informative = sensitivity + specificity - 1
        if recall is not None and informative > 0:
            in_text = _over(rates["cotr_in_true_text"], recall / informative)
            # A corrected share above 1 was cut to 1.
            found["cotr_macro_in_text"] = None if in_text is None else max(in_text, found["cotr_macro"] or 0)
    return found


def _over(rate: float | None, divisor: float) -> float | None:
    return None if rate is None or not divisor else min(1.0, rate / divisor)

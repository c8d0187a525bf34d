"""Table 1 as it was published, to be shown beside a run's own.

Source: Lin et al., *Parrot Captions Teach CLIP to Spot Text*, arXiv 2312.14232 v3, Tables 1, 8 and 9.
"""

from dataclasses import dataclass

from pipeline.tables.table1 import ImageCounts

PAPER = "arXiv 2312.14232 v3"
SOURCE = f"{PAPER}, Tables 1, 8, 9"


@dataclass(frozen=True)
class Published(ImageCounts):
    """The authors' values for one dataset, spotted by DeepSolo; they speak of no failed spotting."""

    name: str
    cotr_macro: float
    cotr_macro_in_text: float
    fuzzy_macro: float
    fuzzy_macro_in_text: float
    averaging: str
    """How the rates were averaged; the paper does not say, the numbers do or do not."""


LAION_2B = Published(
    name="LAION-2B",
    images=1_985_284_122,
    measured=1_985_284_122,
    with_text=1_083_896_427,
    with_co_emb=663_600_432,
    cotr_macro=0.1542,
    cotr_macro_in_text=0.2824,
    fuzzy_macro=0.3046,
    fuzzy_macro_in_text=0.5579,
    averaging="mean of images: 28.24% and 55.79% times the share of images with text are 15.42% and 30.46%",
)

MMC4 = Published(
    name="MMC4",
    images=527_156_206,
    measured=527_156_206,
    with_text=264_618_807,
    with_co_emb=None,
    cotr_macro=0.0288,
    cotr_macro_in_text=0.1570,
    fuzzy_macro=0.0575,
    fuzzy_macro_in_text=0.3128,
    averaging="unknown, and not the mean of images: the rates do not differ by the share of images with text",
)

CC12M = Published(
    name="CC12M",
    images=9_230_079,
    measured=9_230_079,
    with_text=3_421_152,
    with_co_emb=None,
    cotr_macro=0.0621,
    cotr_macro_in_text=0.1594,
    fuzzy_macro=0.1675,
    fuzzy_macro_in_text=0.4301,
    averaging="unknown, and not the mean of images: the rates do not differ by the share of images with text",
)

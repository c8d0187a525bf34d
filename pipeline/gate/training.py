"""Learning a gate: weights from one part of the rows, the threshold from another, what it does from a third.

The parts are by the hash of the uid, so that rows of one uid stay together. Among n images with text, scored by weights
that have not seen them, the m-th lowest score is a tolerance limit whatever their distribution is (Wilks, Annals of
Mathematical Statistics 12, 1941): that at least a share r of all such images scores as high has the probability
P(Binomial(n, 1 - r) >= m). m is the largest of which that is CONFIDENCE; it is also the most misses at which the lower
end of the one-sided Clopper–Pearson interval of the recall is no less than r. Rows are taken for independent; images of
a shard resemble each other, so many shards should be among them.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

from pipeline.gate import GateError
from pipeline.gate.file import Doubles, Gate, Measured, scores
from pipeline.gate.rows import Rows

CONFIDENCE = 0.95

TENTHS = {"training": range(6), "choosing": range(6, 8), "measuring": range(8, 10)}
"""Part → the tenths of the rows that are in it."""

MIN_EACH = 20
"""Images with text, and without, that the training part has at least."""

REGULARISATION = 0.1
"""C of scikit-learn's LogisticRegression over coordinates of unit variance in the mean."""


class _Part(NamedTuple):
    scores: Doubles
    has_text: npt.NDArray[np.bool_]
    words: npt.NDArray[np.int64]


def learn(rows: Rows, recall: float) -> Gate:
    """Learn a gate that lets through a share of at least `recall` of the images with text, with CONFIDENCE.

    Args:
        rows: embedded and spotted images.
        recall: wanted, in (0, 1).

    Raises:
        GateError: too few images, with text or without; the message says how many are needed.
    """
    tenth = rows.hashes % np.uint64(10)
    places = {name: np.flatnonzero(np.isin(tenth, list(tenths))) for name, tenths in TENTHS.items()}
    _refuse_too_few(rows, places, recall)
    training = places["training"]
    weights, bias = _fitted(rows.embeddings[training], rows.has_text[training])
    choosing, measuring = (
        _Part(scores(rows.embeddings[place], weights, bias), rows.has_text[place], rows.words[place])
        for place in (places["choosing"], places["measuring"])
    )
    texts = np.sort(choosing.scores[choosing.has_text])
    threshold = float(texts[allowed_misses(len(texts), recall)])
    return Gate(
        clip=rows.clip,
        spotter=rows.spotter,
        wanted_recall=recall,
        threshold=threshold,
        bias=bias,
        weights=tuple(weights.tolist()),
        rows={name: len(place) for name, place in places.items()}
        | {f"{name}_with_text": int(rows.has_text[place].sum()) for name, place in places.items()}
        | dict(rows.left_out),
        measured=_measured(measuring, threshold),
    )


def allowed_misses(n: int, recall: float) -> int:
    """Most of n images with text that may be missed for a recall of at least `recall` with CONFIDENCE; -1: too few."""
    return int(binom.ppf(1 - CONFIDENCE, n, 1 - recall)) - 1


def needed(recall: float) -> int:
    """Images with text of which none may be missed for a recall of at least `recall` with CONFIDENCE."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(recall))


def clopper_pearson(hits: int, trials: int) -> tuple[float, float]:
    """The two-sided exact interval of a share at CONFIDENCE (Clopper and Pearson, Biometrika 26, 1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def _fitted(embeddings: npt.NDArray[np.floating], has_text: npt.NDArray[np.bool_]) -> tuple[Doubles, float]:
    """Weights (d,) over unit embeddings, and bias."""
    from sklearn.linear_model import LogisticRegression  # takes a second, which no other command should wait

    unit = embeddings.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    mean = unit.mean(axis=0, dtype=np.float64).astype(np.float32)
    unit -= mean
    # One scale for all coordinates: embeddings shrink with their number, and regularisation must not depend on it.
    scale = float(np.sqrt(np.mean(np.square(unit), dtype=np.float64)))
    unit /= scale
    model = LogisticRegression(C=REGULARISATION, max_iter=1000).fit(unit, has_text)
    weights = model.coef_[0].astype(np.float64) / scale
    return weights, float(model.intercept_[0] - weights @ mean)


def _measured(part: _Part, threshold: float) -> Measured:
    skipped = part.scores < threshold
    with_text, missed = int(part.has_text.sum()), int((skipped & part.has_text).sum())
    low, high = clopper_pearson(with_text - missed, with_text)
    return Measured(
        images=len(skipped),
        with_text=with_text,
        missed=missed,
        recall=1 - missed / with_text,
        recall_low_95=low,
        recall_high_95=high,
        word_recall=float(part.words[~skipped].sum() / part.words.sum()),
        skipped=float(skipped.mean()),
    )


def _refuse_too_few(rows: Rows, places: dict[str, npt.NDArray[np.int64]], recall: float) -> None:
    with_text = {name: int(rows.has_text[place].sum()) for name, place in places.items()}
    in_all = int(rows.has_text.sum())
    told = f"of {len(rows.has_text):,} usable images {in_all:,} have text"
    without = len(places["training"]) - with_text["training"]
    if min(with_text["training"], without) < MIN_EACH:
        raise GateError(
            f"Too few images to learn from: {told}, and {MIN_EACH} with and {MIN_EACH} without must be among the "
            f"{len(places['training']):,} of them that weights are fitted to. Spot more shards, or use no gate."
        )
    if allowed_misses(with_text["choosing"], recall) < 0 or not with_text["measuring"]:
        share = len(TENTHS["choosing"]) / 10
        possible = (1 - CONFIDENCE) ** (1 / max(1, with_text["choosing"]))
        raise GateError(
            f"A recall of {recall:.2%} cannot be shown: {told}, and the {with_text['choosing']:,} of them that choose "
            f"the threshold show {possible:.2%} at most, were none missed. It takes {needed(recall):,}, in all some "
            f"{math.ceil(needed(recall) / share):,} with text: spot more shards, or lower --recall."
        )

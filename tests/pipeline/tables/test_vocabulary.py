from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.overlap import tokenize
from pipeline.tables.vocabulary import LONGEST, caption_vocabulary, co_emb_vocabulary
from tests.pipeline.tables.rows import failed, profile, table


def captions(*texts: str) -> pa.Table:
    return pa.table({"caption": texts})


def grams(result) -> list[tuple[str, int]]:
    return [(row["gram"], row["count"]) for row in result.table.to_pylist()]


def test_occurrences_are_counted_in_order_of_count_then_of_the_gram():
    profiles = captions("The cat, the CAT!", "a cat", "", "—", "Straße STRASSE")
    assert grams(caption_vocabulary(profiles, 1)) == [("cat", 3), ("strasse", 2), ("the", 2), ("a", 1)]
    assert grams(caption_vocabulary(profiles, 2)) == [
        ("the cat", 2), ("a cat", 1), ("cat the", 1), ("strasse strasse", 1)]  # fmt: skip


def test_only_the_most_frequent_are_kept_and_ties_go_to_the_first():
    assert grams(caption_vocabulary(captions("d c b a", "d"), 1, most=3)) == [("d", 2), ("a", 1), ("b", 1)]


def test_many_batches_in_little_memory_equal_plain_counting(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.tables.vocabulary.BATCH", 300)
    generator = np.random.default_rng(0)
    words = [f"{word:x}" for word in range(3_000)] + ["Ünï", "文字列", "naïve", "x_y", "don't"]
    texts = [" ".join(generator.choice(words, size)) for size in generator.integers(0, 12, 4_000)]
    for number in range(2):
        pq.write_table(captions(*texts[number::2]), tmp_path / f"{number}.parquet")
    ones, twos = Counter(), Counter()
    for text in texts:
        ones.update(tokenize(text))
        twos.update(" ".join(pair) for pair in pairwise(tokenize(text)))
    profiles = ds.dataset(tmp_path)
    assert dict(grams(caption_vocabulary(profiles, 1, memory_limit="64MB"))) == ones
    found = grams(caption_vocabulary(profiles, 2, most=100, memory_limit="64MB"))
    assert found == sorted(twos.items(), key=lambda item: (-item[1], item[0]))[:100]


def test_grams_beyond_the_limit_are_left_out_and_told():
    result = caption_vocabulary(captions("字" * LONGEST, "字" * (LONGEST + 1), "ok"), 1)
    assert grams(result) == [("ok", 1), ("字" * LONGEST, 1)]
    assert result.notes == (f"Occurrences of more than {LONGEST} characters, left out: 1.",)


def test_co_embedded_words_are_counted_by_images():
    profiles = table(profile(4, 2), profile(4, 1), profile(4, 0), failed(), profile(4, 1, co_emb_words=["z" * 65]))
    assert grams(co_emb_vocabulary(profiles)) == [("w0", 2), ("w1", 1)]
    assert grams(co_emb_vocabulary(profiles, most=1)) == [("w0", 2)]


def test_no_captions_give_an_empty_vocabulary():
    assert grams(caption_vocabulary(captions(), 2)) == grams(co_emb_vocabulary(table())) == []


def test_other_n_are_refused():
    with pytest.raises(ValueError, match="not 3"):
        caption_vocabulary(captions("a b c"), 3)

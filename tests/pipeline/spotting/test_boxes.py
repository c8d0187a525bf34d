import numpy as np

from pipeline.spotting.boxes import split_words, to_polygon

LINE = np.array([[10, 20], [110, 20], [110, 40], [10, 40]])


def words(text: str) -> list[str]:
    return [text[span] for span, _ in split_words(text, LINE)]


def test_polygon_is_rounded_and_clipped_into_the_image():
    polygon = to_polygon([[-3.2, 4.6], [99.6, 2.4], [100, 50], [0, 50]], width=100, height=50)
    assert polygon.dtype == np.int16
    assert polygon.tolist() == [[0, 5], [99, 2], [99, 49], [0, 49]]


def test_polygon_of_an_image_beyond_int16_is_clipped_to_what_it_holds():
    assert to_polygon([[40_000, 10]], width=60_000, height=20).tolist() == [[32_767, 10]]


def test_words_end_at_white_space_and_keep_their_punctuation():
    assert words("  Don't stop, (now)! ") == ["Don't", "stop,", "(now)!"]
    assert words(" \t\u3000") == words("") == []


def test_a_run_without_spaces_is_one_word_and_ends_where_another_script_begins():
    assert words("耐克，跑鞋Nike Air跑鞋") == ["耐克，跑鞋", "Nike", "Air", "跑鞋"]
    assert words("東京タワー") == ["東京タワー"]
    assert words("대한 민국") == ["대한", "민국"]


def test_words_share_the_line_by_their_characters():
    (_, first), (_, second) = split_words("ab cdefg", LINE)
    assert first.tolist() == [[10, 20], [35, 20], [35, 40], [10, 40]]
    assert second.tolist() == [[47.5, 20], [110, 20], [110, 40], [47.5, 40]]


def test_bounds_place_the_characters():
    (_, first), (_, second) = split_words("a b", LINE, [0.1, 0.2, 0.5, 0.9])
    assert first[:, 0].tolist() == [20, 30, 30, 20]
    assert second[:, 0].tolist() == [60, 100, 100, 60]


def test_a_slanted_line_is_cut_along_its_own_direction():
    downwards = [[100, 0], [100, 80], [60, 80], [60, 0]]
    (_, first), (_, second) = split_words("abc defg", downwards)
    assert first.tolist() == [[100, 0], [100, 30], [60, 30], [60, 0]]
    assert second.tolist() == [[100, 40], [100, 80], [60, 80], [60, 40]]

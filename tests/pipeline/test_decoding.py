"""Images opened by threads ahead of the models are those opened one by one, and no more of them than may be."""

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline import schema
from pipeline.batches import BATCH_PIXELS, Sample
from pipeline.config import InputLimits
from pipeline.decoding import Decoder, Item, Opened, Wanted
from pipeline.samples import RawSample, Reject
from pipeline.shards import Shard
from pipeline.stages import Stages
from tests.pipeline.shard_factory import encode, picture

Pixels = npt.NDArray[np.uint8]

SHARD = Shard("a", "/a.tar", 1, "")


def raw(index: int, image: bytes | None = None) -> RawSample:
    data = picture(index) if image is None else image
    return RawSample(index, str(index), data, 0, len(data), "caption", {}, schema.MetadataStatus.ABSENT)


def crop(image: Pixels) -> Pixels:
    return image[:2, :2]


def told(opened: Opened) -> tuple[object, ...]:
    if isinstance(opened, Reject):
        return opened.index, opened.reason, opened.message
    assert opened.crop is not None
    return opened.raw.index, opened.uid, opened.crash, opened.image.pixels.tobytes(), opened.crop.tobytes()


def test_threads_give_what_one_by_one_gives_in_the_same_order() -> None:
    reject = Reject(3, "3", schema.RejectReason.HALF_SAMPLE, "", 0)
    items = [raw(0), raw(1, b"no picture"), raw(2), reject, *(raw(index) for index in range(4, 40))]
    stages = Stages()
    crashed, wanted = {2: "it dies"}, Wanted(crop=crop)
    one_by_one = [told(found) for found in Decoder(InputLimits())(SHARD, items, crashed, stages, wanted)]
    assert [place[0] for place in one_by_one] == list(range(40))
    assert one_by_one[1][1] == schema.RejectReason.UNDECODABLE_IMAGE
    assert one_by_one[2][2] == "it dies"
    assert stages.seconds["decode"] > 0
    for threads, ahead in ((1, 1), (3, 8), (3, 100)):
        decoder = Decoder(InputLimits(), threads, ahead)
        assert [told(x) for x in decoder(SHARD, items, crashed, Stages(), wanted)] == one_by_one


@pytest.mark.parametrize(("image", "open_at_once"), [(picture(0), 5), (picture(0) + bytes(2 * BATCH_PIXELS), 1)])
def test_no_more_is_open_than_may_be(image: bytes, open_at_once: int) -> None:
    read = 0

    def items() -> Iterator[Item]:
        nonlocal read
        for read in range(1, 12):
            yield raw(read, image)

    opened = Decoder(InputLimits(), 2, 5)(SHARD, items(), {}, Stages(), Wanted())
    for number, found in enumerate(opened, 1):
        assert isinstance(found, Sample)
        assert found.crop is None
        assert read <= number + open_at_once


def test_images_are_opened_while_the_caller_is_busy() -> None:
    done, before = threading.Semaphore(0), threading.active_count()

    def seen(image: Pixels) -> Pixels:
        done.release()
        return image

    opened = Decoder(InputLimits(), 2, 4)(SHARD, map(raw, range(9)), {}, Stages(), Wanted(crop=seen))
    next(opened)
    for _ in range(4):  # the one that was asked for, and three behind it
        assert done.acquire(timeout=60)
    opened.close()
    assert threading.active_count() == before


def test_clip_sees_the_same_reduced_copy_whether_or_not_the_whole_is_wanted() -> None:
    image = encode(Image.effect_noise((80, 60), 90).convert("RGB"))
    seen = []
    for whole in (True, False):
        wanted = Wanted(whole, lambda pixels: pixels, least_side=15)
        (found,) = Decoder(InputLimits())(SHARD, [raw(0, image)], {}, Stages(), wanted)
        assert isinstance(found, Sample)
        assert found.image.size == (60, 80)
        assert found.image.pixels.shape == ((60, 80, 3) if whole else (15, 20, 3))
        assert found.crop is not None
        seen.append(found.crop)
    assert seen[0].shape == (15, 20, 3)
    assert seen[0].tobytes() == seen[1].tobytes()


def test_an_error_of_storage_reaches_the_caller_and_threads_end() -> None:
    def items() -> Iterator[Item]:
        yield raw(0)
        raise OSError("the store is gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="the store is gone"):
        list(Decoder(InputLimits(), 2, 4)(SHARD, items(), {}, Stages(), Wanted()))
    assert threading.active_count() == before

"""Images opened by threads ahead of the models are those opened one by one, and no more of them than may be."""

import threading
from collections.abc import Iterator

import pytest

from pipeline import schema
from pipeline.batches import BATCH_PIXELS, Sample
from pipeline.config import InputLimits
from pipeline.decoding import Decoder, Item, Opened
from pipeline.samples import RawSample, Reject
from pipeline.shards import Shard
from pipeline.spotting import Image
from pipeline.stages import Stages
from tests.pipeline.shard_factory import picture

SHARD = Shard("a", "/a.tar", 1, "")


def raw(index: int, image: bytes | None = None) -> RawSample:
    data = picture(index) if image is None else image
    return RawSample(index, str(index), data, 0, len(data), "caption", {}, schema.MetadataStatus.ABSENT)


def crop(image: Image) -> Image:
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
    one_by_one = [told(x) for x in Decoder(InputLimits(), 0, 8)(SHARD, items, {2: "it dies"}, stages, crop)]
    assert [place[0] for place in one_by_one] == list(range(40))
    assert one_by_one[1][1] == schema.RejectReason.UNDECODABLE_IMAGE
    assert one_by_one[2][2] == "it dies"
    assert stages.seconds["decode"] > 0
    for threads, ahead in ((1, 1), (3, 8), (3, 100)):
        decoder = Decoder(InputLimits(), threads, ahead)
        assert [told(x) for x in decoder(SHARD, items, {2: "it dies"}, Stages(), crop)] == one_by_one


@pytest.mark.parametrize(("image", "open_at_once"), [(picture(0), 5), (picture(0) + bytes(2 * BATCH_PIXELS), 1)])
def test_no_more_is_open_than_may_be(image: bytes, open_at_once: int) -> None:
    read = 0

    def items() -> Iterator[Item]:
        nonlocal read
        for read in range(1, 12):
            yield raw(read, image)

    opened = Decoder(InputLimits(), 2, 5)(SHARD, items(), {}, Stages(), None)
    for number, found in enumerate(opened, 1):
        assert isinstance(found, Sample)
        assert found.crop is None
        assert read <= number + open_at_once


def test_images_are_opened_while_the_caller_is_busy() -> None:
    done, before = threading.Semaphore(0), threading.active_count()

    def seen(image: Image) -> Image:
        done.release()
        return image

    opened = Decoder(InputLimits(), 2, 4)(SHARD, map(raw, range(9)), {}, Stages(), seen)
    next(opened)
    for _ in range(4):  # the one that was asked for, and three behind it
        assert done.acquire(timeout=60)
    opened.close()
    assert threading.active_count() == before


def test_an_error_of_storage_reaches_the_caller_and_threads_end() -> None:
    def items() -> Iterator[Item]:
        yield raw(0)
        raise OSError("the store is gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="the store is gone"):
        list(Decoder(InputLimits(), 2, 4)(SHARD, items(), {}, Stages(), None))
    assert threading.active_count() == before

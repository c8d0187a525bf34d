"""Arrays of others' making: rows as they were saved, and what is none told in a sentence."""

import contextlib
import io
import pickle
import uuid
import warnings
import zipfile

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.imported import ImportedError, arrays
from pipeline.imported.arrays import StoredArray
from tests.pipeline.imported.foreign import npy, npz, put

ARRAY = np.random.default_rng(0).standard_normal((300, 5))


class Trap:
    """Fails the test where it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def store(folder: str, data: bytes, member: str | None = None) -> StoredArray:
    put(f"{folder}/file", data)
    fs, path = fsspec.core.url_to_fs(f"{folder}/file")
    return StoredArray(fs, path, member)


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("member", [None, "a"])
def test_rows_are_those_that_were_saved(folder, dtype, member, monkeypatch) -> None:
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 700)
    monkeypatch.setattr(arrays, "BATCH_BYTES", 2000)
    monkeypatch.setattr(arrays, "GAP_BYTES", 50)
    array = ARRAY.astype(dtype)
    stored = store(folder, npz(b=array * 2, a=array) if member else npy(array), member)
    assert stored.header().shape == (300, 5)
    for rows in ([], [0], [299], [3, 4, 90], range(300), range(0, 300, 7)):
        found = stored.read((300, 5), np.array(rows, int))
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array[list(rows)])
    np.testing.assert_array_equal(stored.read((300, 5)), array)


def test_near_rows_are_one_range_and_no_batch_is_large(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(arrays, "GAP_BYTES", 100)
    monkeypatch.setattr(arrays, "BATCH_BYTES", 1000)
    stored = store(str(tmp_path), npy(ARRAY))  # 40 bytes a row
    asked = []
    real = type(stored.fs).cat_ranges

    def cat_ranges(self, paths, starts, ends, **options):
        asked.append([end - start for start, end in zip(starts, ends, strict=True)])
        return real(self, paths, starts, ends, **options)

    monkeypatch.setattr(type(stored.fs), "cat_ranges", cat_ranges)
    stored.read((300, 5), np.array([0, 2, 4, 50, 51, 52, 100]))
    assert asked == [[200, 120, 40]]
    asked.clear()
    stored.read((300, 5), np.arange(0, 300, 5))
    assert max(map(sum, asked)) <= 1000
    assert sum(map(sum, asked)) == 60 * 40


@pytest.mark.parametrize("member", [None, "a"])
def test_an_array_stored_by_columns_is_read_as_a_whole(folder, member) -> None:
    """scikit-learn's components are, as a rule."""
    array = np.asfortranarray(ARRAY)
    stored = store(folder, npz(a=array) if member else npy(array), member)
    np.testing.assert_array_equal(stored.read((300, 5)), ARRAY)
    with pytest.raises(ImportedError, match=r"stored by columns \(Fortran order\)"):
        stored.read((300, 5), np.array([0]))


def test_one_dimension_is_read_as_well(folder) -> None:
    np.testing.assert_array_equal(store(folder, npz(mean=ARRAY[0]), "mean").read((5,)), ARRAY[0])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (npy(np.array([Trap()], object)), "pickled objects"),
        (pickle.dumps(Trap()), "magic string"),
        (b"", "magic string"),
        (npy(np.arange(6).reshape(2, 3)), "it holds int64, not floating-point numbers"),
        (npy(np.zeros((2, 3), np.complex64)), "it holds complex64"),
        (npy(np.zeros((2, 3), np.longdouble)), "not floating-point numbers"),
        (npy(np.array([["a"]])), "it holds <U1"),
        (npy(ARRAY).replace(b"NUMPY\x01", b"NUMPY\x03"), "named fields"),
        (npy(np.zeros(2, [("a", "f4")])), "not floating-point numbers"),
        (npy(np.float32(1.5)), r"it has the shape \(\)"),
        (npy(ARRAY)[:-1], "it has 12,127 bytes, and 12,128 would hold the shape it declares"),
        (npy(ARRAY) + b"x", "it has 12,129 bytes"),
        (npy(ARRAY).replace(b"(300, 5)", b"(-30, 5)"), "it has the shape"),
        (npy(ARRAY).replace(b"'shape'", b"'shapo'"), "cannot be imported"),
        (npy(ARRAY).replace(b"(300, 5), ", b"((((((((("), "cannot be imported"),
    ],
)
def test_a_npy_that_is_none_of_numbers_is_refused(tmp_path, data, told) -> None:
    with pytest.raises(ImportedError, match=told) as error:
        store(str(tmp_path), data).header()
    assert str(tmp_path) in str(error.value)


def member_of(data: bytes, **changes) -> bytes:
    """A zip of one member a.npy, some of its facts changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", changes.get("method", zipfile.ZIP_DEFLATED)) as archive:
        archive.writestr("a.npy", data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"no zip", "not a zip"),
        (npz(b=ARRAY, c=ARRAY), "there is no such array, only b, c"),
        (npz(a=np.array([Trap()], object)), "pickled objects"),
        (member_of(npy(ARRAY), method=zipfile.ZIP_LZMA), "compressed as no npz is"),
        (member_of(npy(ARRAY)[:-8]), "it ends in row 299 of 300"),
        (member_of(npy(ARRAY) + b"x"), "it holds more than the shape it declares"),
        (npz(a=ARRAY)[:-30], "not a zip"),
    ],
)
def test_a_npz_that_is_none_of_numbers_is_refused(tmp_path, data, told) -> None:
    stored = store(str(tmp_path), data, "a")
    with pytest.raises(ImportedError, match=f"a of .*file cannot be imported: .*{told}"):
        stored.read(stored.header().shape)


def test_a_flipped_bit_is_noticed_in_whatever_row(tmp_path) -> None:
    data = bytearray(member_of(npy(ARRAY), method=zipfile.ZIP_STORED))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImportedError, match="Bad CRC-32"):
        store(str(tmp_path), bytes(data), "a").read((300, 5), np.array([0]))


@pytest.mark.parametrize("member", [None, "a"])
def test_nothing_is_inflated_for_a_shape_that_is_not_expected(tmp_path, monkeypatch, member) -> None:
    """A zip bomb: a megabyte that inflates to a gigabyte, where 300 rows are expected."""
    monkeypatch.setattr(arrays, "_inflated_rows", lambda *_: pytest.fail("it was inflated"))
    data = npz(a=np.zeros((1 << 20, 256), np.float16)) if member else npy(ARRAY[:200])
    assert len(data) < 1 << 20
    with pytest.raises(ImportedError, match=r"it has the shape \(.*\), and \(300, 5\) was expected"):
        store(str(tmp_path), data, member).read((300, 5), np.arange(3))


def test_what_is_not_there_is_told(tmp_path) -> None:
    fs = fsspec.filesystem("file")
    for stored in (StoredArray(fs, str(tmp_path / "x.npy")), StoredArray(fs, str(tmp_path / "x.npz"), "a")):
        with pytest.raises(ImportedError, match=r"x\.np. is not there"):
            stored.header()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 127), st.binary(min_size=1, max_size=40))
def test_whatever_stands_in_a_header_is_an_array_or_a_sentence(tmp_path_factory, place, junk) -> None:
    data = bytearray(npy(ARRAY))
    data[place : place + len(junk)] = junk
    stored = store(str(tmp_path_factory.getbasetemp()), bytes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImportedError):
            assert stored.read(stored.header().shape).dtype.kind == "f"

"""Arrow's files: what is read is what is there, and no thread of Arrow's outlives the interpreter."""

import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from pipeline.arrow_files import arrow_file, arrow_filesystem

SLOW_TO_LET_GO = """
import time
import duckdb, fsspec, pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from pipeline.arrow_files import arrow_filesystem

class SlowFile(MemoryFile):
    def __del__(self):
        time.sleep(0.3)  # without Python's lock, which the thread then wants back

class SlowFileSystem(MemoryFileSystem):
    protocol = "slow"
    def open(self, path, mode="rb", **options):
        return SlowFile(self, path, super().open(path, mode, **options).getvalue())

fs = SlowFileSystem()
for part in range(8):
    with MemoryFileSystem().open(f"/parts/{part}.parquet", "wb") as file:
        pq.write_table(pa.table({"n": range(1000)}), file, row_group_size=100)
dataset = ds.dataset([f"/parts/{part}.parquet" for part in range(8)], pa.schema({"n": pa.int64()}), "parquet",
                     filesystem=arrow_filesystem(fs))
print(duckdb.sql("select sum(n) from dataset").fetchall()[0][0], flush=True)
"""


def test_a_process_ends_well_while_arrow_lets_go_of_its_files() -> None:
    ended = subprocess.run([sys.executable, "-c", SLOW_TO_LET_GO], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{8 * sum(range(1000))}\n", "")


def test_local_files_are_read_without_python() -> None:
    fs = fsspec.filesystem("file")
    assert isinstance(arrow_filesystem(fs), pa.fs.LocalFileSystem)
    assert isinstance(arrow_file(fs, __file__), pa.OSFile)


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_what_is_read_is_what_is_there(protocol, tmp_path) -> None:
    fs, path = fsspec.filesystem(protocol), f"{tmp_path}/rows.parquet"
    table = pa.table({"n": range(10)})
    with fs.open(path, "wb") as file:
        pq.write_table(table, file)
    with arrow_file(fs, path) as file:
        assert pq.ParquetFile(file).read() == table
    assert ds.dataset(path, filesystem=arrow_filesystem(fs), format="parquet").to_table() == table
    with pytest.raises(FileNotFoundError):
        arrow_file(fs, f"{tmp_path}/nothing")

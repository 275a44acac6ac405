"""Image sets in Parquet files, as Hugging Face lays them out: a column of {bytes, path}, and one of class numbers.

Parquet is read in groups of rows, and training wants rows in any order. So the files of a small set are held in memory;
those of a large one are copied once, as they are, into an Arrow file in the data folder that is mapped into memory.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.atomic import whole_file
from zoo.data.files import data_folder
from zoo.errors import UserError
from zoo.progress import bar
from zoo.vision.pictures import Pictures

IN_MEMORY = 2_000_000_000  # bytes of files: more are mapped


@dataclass(frozen=True, eq=False)
class ParquetRows:
    """Rows of Parquet files: the bytes of each image and its class."""

    path: Path
    contents: Any  # the bytes of every row, by its number, as pyarrow's scalars
    labels: list[int]
    numbers: list[int]  # which rows of the files
    digest: str  # of the files, or of what stands for them (names, sizes, times of change)

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, rows: np.ndarray) -> "ParquetRows":
        labels, numbers = ([values[r] for r in rows] for values in (self.labels, self.numbers))
        return ParquetRows(self.path, self.contents, labels, numbers, self.digest)

    def read(self, row: int) -> bytes:
        return self.contents[self.numbers[row]].as_py() or b""

    def where(self, row: int) -> str:
        return f"{self.path}, row {self.numbers[row] + 1}"

    def pictures(self) -> Pictures:
        digest = hashlib.sha256(f"{json.dumps(self.numbers)} {self.digest}".encode())
        return Pictures(self.labels, self.read, self.where, digest.hexdigest())


def read_parquet(path: Path) -> ParquetRows:
    """The rows of a file, or of those in a folder. UserError in one line where there is no such file, or not these
    columns."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError("Parquet files need pyarrow: pip install 'transformer-zoo[parquet]'") from None
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UserError(f"{path}: no such Parquet file")
    with _faults(files[0]):
        schema = pq.read_schema(files[0])
    images = [f.name for f in schema if pa.types.is_struct(f.type) and "bytes" in [c.name for c in f.type]]
    numbers = [f.name for f in schema if pa.types.is_integer(f.type)]
    if len(images) != 1 or not ("label" in numbers or len(numbers) == 1):
        raise UserError(f"{path}: expected a column of {{bytes, path}} and one of class numbers, it has {schema.names}")
    number = "label" if "label" in numbers else numbers[0]
    labels: list[Any] = []
    for file in files:
        with _faults(file):
            labels += pq.read_table(file, columns=[number])[number].to_pylist()
    if not labels:
        raise UserError(f"{path}: holds no row")
    for row, label in enumerate(labels, 1):
        if label is None or label < 0:
            raise UserError(f"{path}, row {row}: the class is {label}, expected a number from 0")
    mapped = sum(file.stat().st_size for file in files) > IN_MEMORY
    digest = (_digest_of_names if mapped else _digest_of_content)(files)
    groups = _groups(files, f"{images[0]}.bytes")
    contents = Mapped.made(groups, digest, len(labels)) if mapped else pa.chunked_array(list(groups), pa.binary())
    return ParquetRows(path, contents, labels, [*range(len(labels))], digest)


class Mapped:
    """A column of bytes in an Arrow file that is mapped into memory: each process opens it for itself."""

    def __init__(self, path: Path):
        self.path = path
        self.column: Any = None

    @classmethod
    def made(cls, groups: Iterable[Any], digest: str, rows: int) -> "Mapped":
        """Of the bytes of `groups` of rows, unless the data folder has it by its `digest`; a bar says how far it is."""
        import pyarrow as pa

        path = data_folder() / "parquet" / f"{digest[:24]}.arrow"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            schema = pa.schema([("bytes", pa.binary())])
            with (
                whole_file(path) as file,
                pa.ipc.new_file(file, schema) as writer,
                bar(doing=f"copying into {path.parent}", unit="image", total=rows) as done,
            ):
                for group in groups:
                    writer.write_batch(pa.record_batch([group], schema))
                    done.update(len(group))
        return cls(path)

    def __getitem__(self, row: int) -> Any:
        if self.column is None:
            import pyarrow as pa

            self.column = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()["bytes"]
        return self.column[row]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "column": None}  # or a worker process would be sent the whole file


def _groups(files: list[Path], column: str) -> Iterator[Any]:
    """The bytes of some rows at a time: so few that photographs, too, take some tens of megabytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        with _faults(file):
            for batch in pq.ParquetFile(file).iter_batches(256, columns=[column]):
                yield pa.compute.struct_field(batch.column(0), "bytes").cast(pa.binary())


@contextmanager
def _faults(file: Path) -> Iterator[None]:
    """UserError where a file is no Parquet file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: not a Parquet file that can be read ({str(error).splitlines()[0][:100]})") from None


def _digest_of_content(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _digest_of_names(files: list[Path]) -> str:
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()

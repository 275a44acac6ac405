"""Image sets in Parquet files, as Hugging Face lays them out: a column of {bytes, path}, and one of class numbers.

Parquet is read in groups of rows, and training wants rows in any order. So the files of a small set are held in memory;
those of a large one are copied once, as they are, into an Arrow file in the data folder that is mapped into memory.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.atomic import whole_file, write_atomically
from zoo.data.files import data_folder, states_of
from zoo.errors import UserError
from zoo.progress import bar
from zoo.vision.pictures import Pictures

IN_MEMORY = 2_000_000_000  # bytes of files: more are mapped


@dataclass(frozen=True, eq=False)
class ParquetRows:
    """Rows of Parquet files: the bytes of each image and its class."""

    path: Path
    contents: Any  # of every row, by its number, what `as_py` makes bytes of: a column of pyarrow's, or a `Mapped`
    labels: list[int]
    numbers: list[int]  # which rows of the files
    digest: bytes  # of the files, one after the other

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
        digest = hashlib.sha256(json.dumps(self.numbers).encode() + self.digest)
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
    images, number = _columns(files)
    labels: list[Any] = []
    for file in files:
        with _faults(file):
            labels += pq.read_table(file, columns=[number])[number].to_pylist()
    if not labels:
        raise UserError(f"{path}: holds no row")
    for row, label in enumerate(labels, 1):
        if label is None or label < 0:
            raise UserError(f"{path}, row {row}: the class is {label}, expected a number from 0")
    if sum(file.stat().st_size for file in files) > IN_MEMORY:
        contents, digest = _mapped(files, images, len(labels))
    else:
        groups = [group for file in files for group in _groups(file, images)]
        contents, digest = pa.chunked_array(groups, pa.binary()), b"".join(map(_digest, files))
    return ParquetRows(path, contents, labels, [*range(len(labels))], digest)


def _columns(files: list[Path]) -> tuple[str, str]:
    """The names of the two columns, which every file has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = None
    for file in files:
        with _faults(file):
            schema = pq.read_schema(file)
        images = [f.name for f in schema if pa.types.is_struct(f.type) and "bytes" in [c.name for c in f.type]]
        numbers = [f.name for f in schema if pa.types.is_integer(f.type)]
        if len(images) != 1 or not ("label" in numbers or len(numbers) == 1):
            raise UserError(
                f"{file}: expected a column of {{bytes, path}} and one of class numbers, it has {schema.names}"
            )
        found = images[0], "label" if "label" in numbers else numbers[0]
        first = first or found
        if found != first:
            raise UserError(f"{file}: images and classes are in {found}, in {files[0]} in {first}")
    assert first is not None
    return first


class Mapped:
    """A column of bytes in an Arrow file that is mapped into memory: each process opens it for itself."""

    def __init__(self, path: Path):
        self.path = path
        self.column: Any = None

    def __len__(self) -> int:
        return len(self._opened())

    def __getitem__(self, row: int) -> Any:
        return self._opened()[row]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "column": None}  # or a worker process would be sent the whole file

    def _opened(self) -> Any:
        if self.column is None:
            import pyarrow as pa

            self.column = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()["bytes"]
        return self.column


def _mapped(files: list[Path], images: str, rows: int) -> tuple[Mapped, bytes]:
    """The bytes of all rows, and the digest of the files: from the data folder, where they were copied to before.

    A copy is known by the states of its files, so that these are read once; what it is a copy of, by their content.
    """
    from filelock import FileLock

    states = json.dumps(states_of(files)).encode()
    path = data_folder() / "parquet" / f"{hashlib.sha256(states).hexdigest()[:24]}.arrow"
    kept = path.with_suffix(".sha256")  # written last: where it stands, the copy is whole
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # or each process of a training would make a copy
        try:
            mapped, digest = Mapped(path), bytes.fromhex(kept.read_text())
            if len(mapped) == rows:
                return mapped, digest
        except (OSError, ValueError):  # it is not there, or is damaged: pyarrow's own are of the second
            pass
        digest = _copy(files, images, rows, path)
        write_atomically(kept, digest.hex())
    return Mapped(path), digest


def _copy(files: list[Path], images: str, rows: int, path: Path) -> bytes:
    """Copy the bytes of all rows into an Arrow file; a bar says how far it is."""
    import pyarrow as pa

    schema, digest = pa.schema([("bytes", pa.binary())]), b""
    with (
        whole_file(path) as target,
        pa.ipc.new_file(target, schema) as writer,
        bar(doing=f"copying into {path.parent}", unit="image", total=rows) as done,
    ):
        for file in files:
            digest += _digest(file)
            for group in _groups(file, images):
                writer.write_batch(pa.record_batch([group], schema))
                done.update(len(group))
    return digest


def _groups(file: Path, images: str) -> Iterator[Any]:
    """The bytes of some rows at a time: so few that photographs, too, take some tens of megabytes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with _faults(file):
        for batch in pq.ParquetFile(file).iter_batches(256, columns=[f"{images}.bytes"]):
            yield pc.struct_field(batch.column(images), "bytes").cast(pa.binary())


@contextmanager
def _faults(file: Path) -> Iterator[None]:
    """UserError where a file is no Parquet file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: not a Parquet file that can be read ({str(error).splitlines()[0][:100]})") from None


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()

"""Small files in the public formats, of images made here."""

import gzip
import io
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(values: np.ndarray, quality: int = 75) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "JPEG", quality=quality)
    return out.getvalue()


def write_mnist(folder: Path, train: int = 2300, test: int = 20) -> None:
    """The four files of MNIST: squares whose grey tells their class."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, count in {"train": train, "t10k": test}.items():
        labels = np.arange(count, dtype=np.uint8) % 10
        images = random.integers(0, 20, (count, 28, 28), dtype=np.uint8) + (labels * 20)[:, None, None]
        for kind, values in {"images-idx3": images, "labels-idx1": labels}.items():
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes(), 1))


def write_cifar(folder: Path, train: int = 1700, test: int = 20) -> None:
    """Two Parquet files as Hugging Face lays them out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    random = np.random.default_rng(0)
    for name, count in {"train": train, "test": test}.items():
        files = [jpeg(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)) for _ in range(min(count, 50))]
        rows = [{"bytes": files[i % len(files)], "path": f"{i}.jpg"} for i in range(count)]
        table = pa.table({"img": rows, "label": [i % 10 for i in range(count)]})
        pq.write_table(table, folder / f"{name}-00000-of-00001.parquet")


def write_folder(folder: Path, classes: int = 3, each: int = 12, size: tuple[int, int] = (20, 14)) -> None:
    """A folder of images for each class, whose colour tells it."""
    colours = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (200, 200, 30)]
    random = np.random.default_rng(0)
    for number in range(classes):
        here = folder / f"class{number}"
        here.mkdir(parents=True)
        for i in range(each):
            noise = random.integers(-25, 26, (size[1], size[0], 3))
            values = (np.array(colours[number]) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(here / f"{i}.png")

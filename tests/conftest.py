"""What all tests share: seeds, one thread a worker, a data folder of their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# what torch's deterministic kernels need of cuBLAS, which is asked once per process
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def _same_draws() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)  # what trains in this process has set it


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the user's cache is read or written."""
    os.environ["ZOO_DATA"] = str(tmp_path_factory.mktemp("zoo-data"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where a test computes: here on a CPU, and under `-m gpu` the same test on CUDA, with float32 in full."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # torch lets convolutions and recurrences round
    return torch.device(request.param)


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # tests run side by side


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    mirror = os.environ.get("ZOO_MIRROR")
    if mirror and ("://" in mirror or Path(mirror).is_dir()):
        return
    skip = pytest.mark.skip(reason="needs real public data: set ZOO_MIRROR to a folder that holds it")
    for item in items:
        if "public" in item.keywords:
            item.add_marker(skip)

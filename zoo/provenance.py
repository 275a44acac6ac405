"""Where a figure comes from: the commit and the device behind it, and the files that keep both beside it."""

import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from zoo.atomic import write_atomically


def commit() -> str | None:
    """The commit of the checkout that zoo runs from, with + where it was changed since; None outside of one."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    count = torch.get_num_threads()
    return f"{names[0] if names else platform.processor()}, {count} {'thread' if count == 1 else 'threads'}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def keep(script: str, name: str, begin: float, found: dict[str, Any], *, seed: int = 0, given: str = "") -> None:
    """What an experiment's script found on this CPU, in `results` beside it.

    `script`: its __file__; `given`: the arguments that it had; `begin`: when it began, as time.time() says it.
    """
    path = Path(script).resolve()
    about = {
        "command": f"python experiments/{path.parent.name}/{path.name} {given}".rstrip(),
        "commit": commit(),
        "seed": seed,
        "device": device_name(torch.device("cpu")),
        "seconds": round(time.time() - begin, 1),
    }
    folder = path.parent / "results"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{name}.json", json.dumps(about | found, indent=1) + "\n")

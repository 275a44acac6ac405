"""What the CPU here is, as the operating system tells: who made it, and which units it has."""

import platform
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@cache
def vendor() -> str:
    """As it names itself ("GenuineIntel", "AuthenticAMD"); nothing where that is not told."""
    if found := _said("vendor_id"):
        return found
    return next((name for name in ("AuthenticAMD", "GenuineIntel") if name in platform.processor()), "")


@cache
def units() -> frozenset[str]:
    """Its extensions by Linux's names ("avx2", "amx_bf16"); none elsewhere."""
    return frozenset(_said("flags").split())


def _said(key: str) -> str:
    try:
        with CPUINFO.open() as lines:  # which tells as much of every core again: the first will do
            return next(
                (value.strip() for name, _, value in (x.partition(":") for x in lines) if name.strip() == key), ""
            )
    except OSError:
        return ""

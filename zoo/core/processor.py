"""What the CPU here is, as Linux tells: who made it, and which units it has."""

from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@cache
def vendor() -> str:
    """As it names itself ("GenuineIntel", "AuthenticAMD"); nothing where Linux does not tell."""
    return _said("vendor_id")


@cache
def units() -> frozenset[str]:
    """Its extensions by Linux's names ("avx2", "amx_bf16"); none elsewhere."""
    return frozenset(_said("flags").split())


def multiplies_halves() -> bool:
    """Whether its units multiply matrices of bfloat16: AMX's or AVX-512's, at four times float32's rate and more."""
    return bool(units() & {"amx_bf16", "avx512_bf16"})


def _said(key: str) -> str:
    try:
        with CPUINFO.open() as lines:  # which tells as much of every core again: the first will do
            return next(
                (value.strip() for name, _, value in (x.partition(":") for x in lines) if name.strip() == key), ""
            )
    except OSError:
        return ""

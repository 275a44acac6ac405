"""zoo: text, vision, music and protein models on one Transformer core.

`import zoo` costs nothing: what needs torch is imported where it is asked for.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo.weights.load import load as load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from zoo.weights.load import load

        return load
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")

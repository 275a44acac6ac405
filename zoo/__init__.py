"""zoo: text, vision, music and protein models on one Transformer core.

`import zoo` costs nothing: what needs torch is imported where it is asked for.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo.weights.folders import save as save
    from zoo.weights.load import load as load

__all__ = ["__version__", "load", "save"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from zoo.weights.load import load

        return load
    if name == "save":
        from zoo.weights.folders import save

        return save
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")

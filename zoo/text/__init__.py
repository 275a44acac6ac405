"""Text on the one core: `from zoo.text import Seq2Seq`."""

from zoo.text.model import Seq2Seq

__all__ = ["Seq2Seq"]

"""Text on the one core: `from zoo.text import CausalLM, Seq2Seq`."""

from zoo.text.model import CausalLM, Seq2Seq

__all__ = ["CausalLM", "Seq2Seq"]

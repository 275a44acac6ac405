"""Text on the one core: `from zoo.text import CausalLM, MaskedLM, Seq2Seq, TextClassifier`."""

from zoo.text.encoder import MaskedLM, TextClassifier
from zoo.text.model import CausalLM, Seq2Seq

__all__ = ["CausalLM", "MaskedLM", "Seq2Seq", "TextClassifier"]

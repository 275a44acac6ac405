"""Proteins on the one core: `from zoo.protein import ProteinLM`."""

from zoo.protein.model import ProteinLM, ResidueModel, SequenceModel

__all__ = ["ProteinLM", "ResidueModel", "SequenceModel"]

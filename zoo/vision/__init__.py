"""Images on the one core: `from zoo.vision import MaskedAutoencoder, ViT`."""

from zoo.vision.model import MaskedAutoencoder, ViT

__all__ = ["MaskedAutoencoder", "ViT"]

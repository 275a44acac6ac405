"""Music on the one core: `from zoo.music import MusicLM`."""

from zoo.music.model import MusicLM

__all__ = ["MusicLM"]

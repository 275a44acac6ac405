"""The views of music, by one door: `View.load`, and each under its name in settings."""

from zoo.music.chorale import Chorale
from zoo.music.codebooks import Codebooks
from zoo.music.events import Events
from zoo.music.frames import Frames
from zoo.music.view import Following, Grammar, View

__all__ = ["Chorale", "Codebooks", "Events", "Following", "Frames", "Grammar", "View"]

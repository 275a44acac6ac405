"""The tour: every domain trains on its built-in data for under a minute, and a page shows what it learned.

A domain joins with a module of its own here: `run(seconds) -> Stop`, named in STOPS.
"""

from zoo.tour.stop import Example, Picture, Sound, Stop

STOPS = {
    "text": "zoo.tour.text",
    "vision": "zoo.tour.vision",
    "music": "zoo.tour.music",
    "protein": "zoo.tour.protein",
}

__all__ = ["STOPS", "Example", "Picture", "Sound", "Stop"]

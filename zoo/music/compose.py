"""Writing pieces with a trained model, and what a piece looks like.

Every sample holds the view's grammar (zoo/music/view.py). A given melody is kept by force: at each step the soprano's
token is the melody's, and the other voices are drawn given all that was sung so far, by the model as it was trained.
So that they also fit what the melody does next, several harmonisations go on side by side, and at every beat they are
drawn anew in proportion to how well each has foreseen the melody since (sequential Monte Carlo: Gordon et al. 1993).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zoo.core.cache import Cache
from zoo.core.decode import Sampling, check_scores
from zoo.core.writer import Continuing
from zoo.errors import UserError
from zoo.music.chorale import REST, Chorale
from zoo.music.model import MusicLM
from zoo.music.view import DRUMS, Following, Heard, TempoMap, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(
    model: MusicLM,
    view: View,
    *,
    count: int = 1,
    bars: int | None = None,
    prompt: Sequence[int] = (),
    tempo_map: TempoMap | None = None,
    sampling: Sampling = Sampling(temperature=1.0),  # noqa: B008 - a frozen value
    length: int | None = None,
) -> list[list[int]]:
    """`count` pieces as tokens, each from `prompt` to its end: of exactly `bars` bars, or at most `length` tokens more.

    ValueError without either. `tempo_map`: whose bars they are, where pieces hold none. UserError where the prompt is
    no beginning of such a piece.
    """
    if bars is None and length is None:
        raise ValueError("how long a piece may be is needed: give bars or length")
    rows = [list(prompt)] * count
    grammar = view.grammar(bars, tempo_map)
    if bars is not None and not grammar.holds(prompt) and view.grammar().holds(prompt):
        raise UserError(
            f"the prompt is longer than {bars} bars: write more, or begin with fewer of its (--prompt-bars)"
        )
    following = Following(grammar, rows, length)
    prompts = torch.tensor([[model.start, *row] for row in rows], device=model.head.weight.device)
    written = model.generate(prompts, length=following.length, sampling=sampling, constraint=following).tolist()
    return [[*prompt, *row[: row.index(view.end) + 1]] for row in written]


def opening(view: View, tokens: Sequence[int], bars: int, tempo_map: TempoMap | None = None) -> list[int]:
    """As much of a piece's tokens as `bars` bars hold."""
    grammar = view.grammar(bars, tempo_map)
    state = grammar.begin()
    for place, token in enumerate(tokens):
        if token == view.end or token not in grammar.may(state):
            return list(tokens[:place])
        state = grammar.step(state, token)
    return list(tokens)


@torch.no_grad()
def harmonise(
    model: MusicLM, view: Chorale, melody: np.ndarray, *, sampling: Sampling, particles: int = 16
) -> list[int]:
    """A chorale whose soprano is `melody` ("n": pitches, HOLD, REST): `particles` are written, one is drawn."""
    silent = np.flatnonzero(melody != REST)
    if not len(silent):
        raise UserError("the melody has no notes")
    melody = melody[: silent[-1] + 1]
    grammar = view.grammar(melody=melody)
    device = model.head.weight.device
    following = Following(grammar, [[]] * particles)
    draw = sampling.drawer(device)
    generator = torch.Generator().manual_seed(sampling.seed)
    cache = Cache(model.stack, particles, following.length + 1)
    step = Continuing(model.hidden, model.head, cache)
    tokens = torch.full((particles,), model.start, device=device)
    chosen = torch.empty(particles, 0, dtype=torch.long, device=device)
    weights = torch.zeros(particles)  # log: how well each foresaw the melody since the last choice
    for place in range(4 * len(melody)):
        scores = step(tokens)
        check_scores(scores)
        if place % 4 == 0:
            given = grammar.melody[place // 4]
            weights += scores.log_softmax(-1)[:, given].float().cpu()
        if place % (4 * view.steps) == 0 and place:
            rows = torch.multinomial(weights.softmax(0), particles, replacement=True, generator=generator)
            weights = torch.zeros(particles)
            step.reorder(rows.to(device))
            scores, chosen = scores[rows.to(device)], chosen[rows.to(device)]
            following.states = [following.states[row] for row in rows.tolist()]
        tokens = draw(following(chosen, scores))
        chosen = torch.cat((chosen, tokens.unsqueeze(-1)), -1)
    last = int(torch.multinomial(weights.softmax(0), 1, generator=generator))
    return [*chosen[last].tolist(), view.end]


def piano_roll(heard: Sequence[Heard], title: str = "") -> "Figure":
    """Notes over time: seconds to the right, pitches upwards, a colour for each voice or track; drums are left out."""
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    pitched = [note for note in heard if note.program != DRUMS]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes: Any = figure.add_subplot()
    boxes = [Rectangle((note.begin, note.pitch - 0.4), note.length, 0.8) for note in pitched]
    patches = PatchCollection(boxes, cmap="tab10", edgecolor="white", linewidth=0.4)
    patches.set_array(np.array([note.part % 10 for note in pitched]))
    patches.set_clim(0, 9)
    axes.add_collection(patches)
    if pitched:
        axes.set_xlim(0, max(note.begin + note.length for note in pitched))
        axes.set_ylim(min(note.pitch for note in pitched) - 2, max(note.pitch for note in pitched) + 2)
    octaves = range(0, 128, 12)
    axes.set_yticks([p for p in octaves if axes.get_ylim()[0] <= p <= axes.get_ylim()[1]])
    axes.set_yticklabels([f"C{int(p) // 12 - 1}" for p in axes.get_yticks()])
    axes.grid(axis="y", alpha=0.3)
    axes.set_xlabel("seconds")
    axes.set_title(title)
    return figure


def spectrogram(wave: Tensor, rate: int, title: str = "") -> "Figure":
    """The energies of a sound "n" over time and frequency, in decibels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.specgram(wave.numpy() + 1e-8, NFFT=1024, noverlap=768, Fs=rate, vmin=-140)
    axes.set_xlabel("seconds")
    axes.set_ylabel("hertz")
    axes.set_title(title)
    return figure

"""`zoo compose MODEL`: a music model writes a piece: MIDI, sound (WAV) and a picture of it (PNG).

A model of a codec's codes writes sound alone: WAV, and its spectrogram.
"""

import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zoo.errors import UserError
from zoo.options import Options, check_new, numbered
from zoo.verbs.opening import add_options, check_counts, open_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from symusic import Score

    from zoo.core.decode import Sampling
    from zoo.music.codebooks import Codebooks
    from zoo.music.model import MusicLM
    from zoo.music.view import TempoMap, View

T = TypeVar("T")


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo compose", description="Write a piece: NAME.mid, NAME.wav and NAME.png.")
    add_options(parser)
    parser.add_argument("--bars", type=int, help="bars of the piece, those of --prompt among them (8)")
    parser.add_argument("--prompt", type=Path, metavar="FILE.mid", help="go on with this piece")
    parser.add_argument("--prompt-bars", type=int, metavar="N", help="begin with the first N bars of --prompt (all)")
    parser.add_argument("--melody", type=Path, metavar="FILE.mid", help="harmonise this melody (models of chorales)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 always takes the likeliest (default 1)")
    parser.add_argument("--top-p", type=float, default=0.99, help="draw among the fewest with this share (0.99)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds write equal pieces (default 0)")
    parser.add_argument(
        "--out", type=Path, default=None, metavar="NAME", help="a name, or a folder (default: composed, numbered)"
    )
    parser.add_argument("--soundfont", type=Path, metavar="FILE.sf2", help="sound by fluidsynth with this soundfont")
    given = parser.parse_args(argv)
    if given.prompt and given.melody:
        raise UserError("give either --prompt (go on with a piece) or --melody (harmonise it)")
    if given.melody and given.bars is not None:
        raise UserError("--bars does not go with --melody: the piece is as long as the melody")
    given.bars = 8 if given.bars is None else given.bars
    if given.prompt_bars is not None and not given.prompt:
        raise UserError("--prompt-bars says how much of --prompt is taken: give that too")
    check_counts(given, "bars", "prompt_bars")
    if given.prompt_bars is not None and given.prompt_bars > given.bars:
        raise UserError(f"--prompt-bars {given.prompt_bars} are more than the {given.bars} bars of the piece (--bars)")
    files = _files(given.out)

    from zoo.core.decode import Sampling
    from zoo.music import midi, synth
    from zoo.music.compose import harmonise, opening, piano_roll, write
    from zoo.music.tokens import Chorale, Codebooks

    if given.soundfont:
        synth.find_fluidsynth(given.soundfont)  # before anything is written
    try:
        sampling = Sampling(temperature=given.temperature, top_p=given.top_p, seed=given.seed)
    except ValueError as error:
        raise UserError(str(error)) from None
    loaded = open_model(given, "compose", "MusicLM")
    model, view = loaded.model, loaded.tokenizer
    if isinstance(view, Codebooks):
        return _sound(given, model, view, sampling, files)
    counts: Counter[str] = Counter()
    if given.melody:
        if not isinstance(view, Chorale):
            raise UserError(f"--melody needs a model of chorales; {given.model} writes {type(view).__name__}")
        melody, tempo_map = _fits(view, view.melody, given.melody, counts)
        tokens = harmonise(model, view, melody, sampling=sampling)
    else:
        begun, tempo_map = _fits(view, view.piece, given.prompt, counts) if given.prompt else (None, None)
        prompt = [] if begun is None else view.encode(begun)[:-1]
        if given.prompt_bars:
            prompt = opening(view, prompt, given.prompt_bars, tempo_map)
        (tokens,) = write(model, view, bars=given.bars, prompt=prompt, tempo_map=tempo_map, sampling=sampling)
    if changed := midi.told(counts):
        print(f"{given.melody or given.prompt} was changed to fit the model: {changed}", file=sys.stderr)
    piece = view.decode(tokens)
    heard = view.heard(piece, tempo_map)
    midi.save(view, piece, files["mid"], tempo_map)
    if given.soundfont:
        synth.fluidsynth(files["mid"], given.soundfont, files["wav"])
    else:
        files["wav"].write_bytes(synth.wav_bytes(synth.render(heard)))
    piano_roll(heard, files["mid"].stem).savefig(files["png"], dpi=150)
    seconds = max(note.begin + note.length for note in heard)
    print(f"{len(heard)} notes, {seconds:.0f} seconds", file=sys.stderr)
    for path in files.values():
        print(path)
    return 0


def _sound(given: Namespace, model: "MusicLM", view: "Codebooks", sampling: "Sampling", files: dict[str, Path]) -> int:
    """Codes, and what the codec in the model's folder makes of them; --bars are of 4/4 at 96 quarters per minute."""
    from zoo.music import synth
    from zoo.music.compose import spectrogram
    from zoo.weights.load import load

    for name in ("prompt", "melody", "soundfont"):
        if getattr(given, name):
            raise UserError(f"--{name} needs a model of notes; {given.model} writes codes of sound")
    codec = load(Path(given.model) / "codec").model
    frames = round(given.bars * 4 * 60 / 96 * codec.rate / codec.hop)
    length = view.pattern.steps(view.books, frames)
    device = next(model.parameters()).device
    laid = model.generate(view.prompt(1).to(device), length=length, sampling=sampling, constraint=view.laid(frames))
    wave = codec.decode(view.pattern.revert(laid, frames).cpu())
    files["wav"].write_bytes(synth.wav_bytes(synth.level(wave), codec.rate))
    spectrogram(wave[0], codec.rate, files["wav"].stem).savefig(files["png"], dpi=150)
    print(f"{wave.shape[-1] / codec.rate:.0f} seconds", file=sys.stderr)
    print(files["wav"], files["png"], sep="\n")
    return 0


def _files(out: Path | None) -> dict[str, Path]:
    """The three files to write; none of them exists. Without a name in --out they are called composed, numbered.

    UserError where --out names one that exists.
    """
    kinds = ("mid", "wav", "png")
    if out is None or out.is_dir():
        folder, name = out or Path(), ""
    else:
        folder, name = out.parent, out.stem if out.suffix.lower().removeprefix(".") in kinds else out.name
    sets = ({kind: folder / f"{base}.{kind}" for kind in kinds} for base in ([name] if name else numbered("composed")))
    files = next(files for files in sets if name or not any(path.exists() for path in files.values()))
    for path in files.values():
        check_new("--out", path)
    return files


def _fits(
    view: "View", of: "Callable[[Score, Counter[str]], T]", path: Path, counts: Counter[str]
) -> "tuple[T, TempoMap | None]":
    """A MIDI file by way of a view, and its tempos where that leaves them out; what had to be changed is counted.

    UserError names the file where it does not fit.
    """
    from zoo.music import midi

    score = midi.read(path)
    try:
        return of(score, counts), view.tempo_map(score, counts)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None

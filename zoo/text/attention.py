"""Where a translator looks as it writes."""

from dataclasses import dataclass
from pathlib import Path

import torch

from zoo.core.record import record
from zoo.errors import UserError
from zoo.text.model import Seq2Seq
from zoo.text.tokens import Tokenizer


@dataclass(frozen=True, eq=False)
class Looks:
    """Weights "n m", the mean of the heads of one layer: each token written (row), each token read (column)."""

    written: list[str]
    read: list[str]
    weights: torch.Tensor
    error: float  # how far weights x values lie from what the model's own kernel gave


def cross_attention(
    model: Seq2Seq,
    tokenizer: Tokenizer,
    text: str,
    *,
    layer: int = -1,
    beams: int = 1,
    length: int = 128,
    length_penalty: float = 1.0,
) -> Looks:
    """Translate a text and record the cross attention of a layer (negative: from the end) over what was written."""
    device = next(model.parameters()).device
    source = torch.tensor([tokenizer.closed(tokenizer.encode(text))], device=device)
    written = model.generate(source, length=length, beams=beams, length_penalty=length_penalty)[0][0].tokens
    target = torch.tensor([[model.start, *written]], device=device)
    with torch.no_grad(), record(model, layers=[layer], which="cross") as maps:
        model(source, target)
    # the row of a token is that of the step that wrote it: the one that had read the token before
    return Looks(
        written=[*(_name(tokenizer.decode([i])) for i in written), "end"],
        read=[*(_name(tokenizer.decode_source([i])) for i in source[0, :-1].tolist()), "end"],
        weights=maps[0].weights[0].mean(0).cpu(),
        error=maps[0].error,
    )


def _name(text: str) -> str:
    return text.strip() or "·"


def draw(looks: Looks, path: Path) -> None:
    """A picture of the map; the ending of `path` says the format (png, svg, pdf)."""
    from matplotlib.figure import Figure

    rows, columns = looks.weights.shape
    figure = Figure(figsize=(1.5 + 0.34 * columns, 1.2 + 0.3 * rows), layout="constrained")
    if path.suffix.removeprefix(".") not in figure.canvas.get_supported_filetypes():
        raise UserError(
            f"{path}: cannot draw {path.suffix or 'a file without ending'!r}; .png, .svg and .pdf are known"
        )
    axes = figure.add_subplot()
    image = axes.imshow(looks.weights.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(columns), looks.read, rotation=90)
    axes.set_yticks(range(rows), looks.written)
    axes.xaxis.tick_top()
    axes.set_xlabel("read")
    axes.set_ylabel("written")
    figure.colorbar(image, label="attention, mean of the heads", shrink=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)

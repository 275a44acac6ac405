"""`zoo translate RUN [TEXT...]`: translate texts, or the lines of standard input."""

import sys

from zoo.errors import UserError
from zoo.options import Options


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo translate", description="Translate TEXT, or each line of standard input.")
    parser.add_argument("model", help="a run folder")
    parser.add_argument("text", nargs="*", help="one sentence each; standard input where none is given")
    parser.add_argument("--beams", type=int, default=4, help="width of the beam search; 1 is greedy (default 4)")
    parser.add_argument("--nbest", type=int, default=1, help="translations of each sentence, with scores if above 1")
    parser.add_argument("--length-penalty", type=float, default=1.0, help="score = log probability / length ** this")
    parser.add_argument("--max-length", type=int, default=128, help="longest translation in tokens (default 128)")
    parser.add_argument("--batch", type=int, default=32, help="sentences translated at a time (default 32)")
    parser.add_argument("--checkpoint", default="best", help="best (default), last, or a path")
    parser.add_argument("--device", default=None, help="cpu, cuda ... (default: cuda where there is one)")
    given = parser.parse_intermixed_args(argv)
    for name in ("beams", "nbest", "max_length", "batch"):
        if getattr(given, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(given, name)}")
    if given.nbest > given.beams:
        raise UserError(f"--nbest ({given.nbest}) cannot exceed --beams ({given.beams})")

    import torch

    from zoo.text.model import Seq2Seq
    from zoo.text.translate import translate
    from zoo.weights.load import load

    loaded = load(given.model, checkpoint=given.checkpoint)
    if not isinstance(loaded.model, Seq2Seq):
        raise UserError(f"{given.model} holds a {loaded.config['kind']}, which does not translate")
    device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    texts = given.text or _lines()
    results = translate(
        loaded.model.to(device),
        loaded.tokenizer,
        texts,
        beams=given.beams,
        nbest=given.nbest,
        length=given.max_length,
        length_penalty=given.length_penalty,
        batch=given.batch,
    )
    for hypotheses in results:
        for score, text in hypotheses:
            print(text if given.nbest == 1 else f"{score:.4f}\t{text}")
    return 0


def _lines() -> list[str]:
    lines = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            lines.append(line.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError:
            raise UserError(f"standard input, line {number}: not UTF-8") from None
    return lines

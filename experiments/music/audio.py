"""What the codec and the model of its codes are worth: python experiments/music/audio.py CODEC_RUN CODES_RUN

On the rendered test pieces: the real-time factor of encoding and decoding (seconds of work a second of sound, one
sound at a time), the perplexity of each codebook, the spectral distance of what comes back beside that of silence;
and seconds of work a second of sound that the model writes. Writes results/audio.json.
"""

import json
import sys
import time
from pathlib import Path

import torch

import zoo
from zoo.core.decode import Sampling
from zoo.music.audio import open_codec, rendered, source_of
from zoo.music.codec import perplexity, spectral_distance
from zoo.provenance import keep


def timed(work: "object") -> tuple[object, float]:
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin  # type: ignore[operator]


@torch.no_grad()
def main(codec_run: Path, codes_run: Path) -> None:
    begin, codec = time.time(), open_codec(codec_run)
    sounds = rendered(source_of("jsb", 1), "test", 4, codec.rate)
    spent, back, codes = {"encode": 0.0, "decode": 0.0}, [], []
    for x in sounds:
        code, seconds = timed(lambda x=x: codec.encode(x.unsqueeze(0)))
        spent["encode"] += seconds
        y, seconds = timed(lambda code=code: codec.decode(code))
        spent["decode"] += seconds
        codes.append(code)
        back.append(y[:, : len(x)])
    length = sum(map(len, sounds)) / codec.rate
    distance = {
        "decoded": [spectral_distance(y, x.unsqueeze(0), codec.rate) for x, y in zip(sounds, back, strict=True)],
        "silence": [spectral_distance(torch.zeros(1, len(x)), x.unsqueeze(0), codec.rate) for x in sounds],
    }
    loaded = zoo.load(codes_run)
    view, frames = loaded.tokenizer, 250
    sampling = Sampling(temperature=0.9, top_p=0.98, seed=0)
    laid, writing = timed(
        lambda: loaded.model.generate(
            view.prompt(1),
            length=view.pattern.steps(view.books, frames),
            sampling=sampling,
            constraint=view.laid(frames),
        )
    )
    written = view.pattern.revert(laid, frames)
    kept = {
        "seconds of sound": round(length, 1),
        "bits a second": codec.rate / codec.hop * view.books * torch.log2(torch.tensor(float(view.size))).item(),
        "real-time factor": {name: value / length for name, value in spent.items()},
        "perplexity of each book": perplexity(torch.cat(codes, -1), view.size).tolist(),
        "codes a book": view.size,
        "spectral distance, nepers": {name: float(torch.stack(some).mean()) for name, some in distance.items()},
        "codec": json.loads((codec_run / "test.json").read_text()),
        "model of codes": json.loads((codes_run / "test.json").read_text()),
        "runs": {run.name: json.loads((run / "run.json").read_text())["legs"] for run in (codec_run, codes_run)},
        "writing": {
            "seconds of work a second of sound": writing / (frames * codec.hop / codec.rate),
            "perplexity of each book": perplexity(written, view.size).tolist(),
        },
    }
    keep(__file__, "audio", begin, kept, given=f"{codec_run.name} {codes_run.name}")
    print(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Patterns of codebooks give back what they lay out, models write under them, and a codec brings sound to codes."""

import io
import json
import shutil
import wave
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from tests.music.pieces import write_codec
from zoo.cli import main
from zoo.core import Rotary, StackConfig
from zoo.core.decode import Sampling
from zoo.errors import UserError
from zoo.music import MusicLM
from zoo.music.audio import Coding, RenderedChorales, SoundCodes
from zoo.music.codebooks import Codebooks, Delay, Flat, Parallel, Pattern
from zoo.music.codec import Codec, Residual, perplexity, spectral_distance
from zoo.train.start import open_network

PATTERNS = [Parallel(), Delay(), Delay(3), Flat()]
patterned = pytest.mark.parametrize("pattern", PATTERNS, ids=str)


@patterned
@pytest.mark.parametrize(("codebooks", "positions"), [(1, 1), (4, 1), (4, 6), (3, 9)])
def test_codes_come_back_and_holes_are_where_none_stands(pattern: Pattern, codebooks: int, positions: int) -> None:
    codes = torch.randint(0, 9, (2, codebooks, positions))
    laid = pattern.build(codes, 9)
    assert laid.shape == (2, codebooks, pattern.steps(codebooks, positions))
    assert torch.equal(pattern.revert(laid, positions), codes)
    assert int((laid != 9).sum()) == codes.numel()


def test_patterns_are_those_of_the_paper() -> None:
    """Copet et al. 2023, figure 1: what stands where, for three books and three positions."""
    codes = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
    assert Parallel().build(codes, 0)[0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert Delay().build(codes, 0)[0].tolist() == [[1, 2, 3, 0, 0], [0, 4, 5, 6, 0], [0, 0, 7, 8, 9]]
    flat = [[1, 0, 0, 2, 0, 0, 3, 0, 0], [0, 4, 0, 0, 5, 0, 0, 6, 0], [0, 0, 7, 0, 0, 8, 0, 0, 9]]
    assert Flat().build(codes, 0)[0].tolist() == flat
    with pytest.raises(ValueError, match=r"by \(0\)"):
        Delay(0)


def test_the_delay_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MusicgenDecoderConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, ffn_dim=8, num_attention_heads=1, num_codebooks=4
    )
    theirs = transformers.MusicgenForCausalLM(config)
    codes = torch.randint(0, 8, (1, 4, 10))
    first = torch.full((4, 1), 8)
    length = Delay().steps(4, 10) + 1
    _, mask = theirs.build_delay_pattern_mask(first, pad_token_id=8, max_length=length)
    ours = torch.cat((first, Delay().build(codes, 8)[0]), -1)
    fixed = mask != -1  # where theirs says what stands: holes
    assert torch.equal(ours[fixed], mask[fixed])
    assert (ours[~fixed] < 8).all()


@patterned
def test_what_is_written_fits_the_pattern(pattern: Pattern) -> None:
    view = Codebooks(3, 7, pattern)
    net = MusicLM(StackConfig(dim=24, depth=1, heads=2, causal=True, position=Rotary()), 7, codebooks=3).eval()
    length = pattern.steps(3, 5)
    laid = net.generate(view.prompt(2), length=length, sampling=Sampling(), constraint=view.laid(5))
    codes = pattern.revert(laid, 5)
    assert codes.max() < 7
    assert torch.equal(pattern.build(codes, 7), laid)


# -- the codec ---------------------------------------------------------------------------------------------------------


def tiny() -> Codec:
    torch.manual_seed(0)
    return Codec(rate=8000, width=4, codebooks=3, size=16, latent=8)


@pytest.mark.parametrize("samples", [1, 320, 1000, 3200])
def test_lengths_are_kept_and_codes_say_all(samples: int) -> None:
    codec = tiny().train()
    for _ in range(3):
        codec(torch.randn(2, 3200))
    codec.eval()
    x = torch.randn(2, samples).clamp(-1, 1)
    back, left = codec(x)
    assert back.shape == x.shape
    assert left >= 0
    codes = codec.encode(x)
    assert codes.shape == (2, 3, -(-samples // 320))
    torch.testing.assert_close(codec.decode(codes)[:, :samples], back.clamp(-1, 1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_a_decoded_sound_goes_on_to_its_end(frames: int) -> None:
    made = tiny().eval().decode(torch.randint(16, (1, 3, frames)))
    assert made.shape == (1, 320 * frames)
    assert (made[0, -64:] != 0).sum() > 32  # a transposed convolution of odd stride had left out 64 samples


def test_a_piece_that_is_shorter_than_a_window_is_one_with_silence_behind(tmp_path: Path) -> None:
    write_codec(tmp_path / "codec")
    pieces = {"source": "harmony", "train": 1, "val": 1, "test": 1}
    data = SoundCodes(tmp_path / "codec", seconds=14.0, **pieces)  # the piece has about 11
    (batch,) = data.val_dataloader()
    assert batch.ids.shape == (1, 4, 14 * 50 + 3)
    silent = data.codec.encode(torch.zeros(1, 100 * 320))[0].T
    (codes,) = data._clips["val"].sounds
    assert torch.equal(codes[-50:-2], silent[-50:-2])
    assert not torch.equal(codes[50:98], silent[-50:-2])
    (sounds,) = RenderedChorales(seconds=14.0, **pieces).val_dataloader()
    assert sounds.shape == (1, 14 * 16_000)


def test_each_book_codes_what_is_left_over() -> None:
    torch.manual_seed(0)
    quantiser = Residual(4, 64, 8).train()
    frames = torch.randn(2, 400, 8)
    for _ in range(60):
        quantiser(frames)
    quantiser.eval()
    errors = []
    codes = quantiser.codes(frames)
    for books in range(5):
        some = quantiser.books[torch.arange(books), codes[..., :books]].sum(-2) if books else torch.zeros_like(frames)
        errors.append(float((frames - some).square().mean()))
    assert all(after < 0.75 * before for before, after in pairwise(errors))
    assert errors[-1] == pytest.approx(float(quantiser(frames)[1]), rel=1e-4)


def test_codebooks_stay_in_use() -> None:
    """Frames that lie on one point at first, then elsewhere: codes move to where the frames are."""
    torch.manual_seed(0)
    quantiser = Residual(1, 32, 4).train()
    for _ in range(20):
        quantiser(torch.randn(1, 200, 4) * 0.001 + 5)
    spread = torch.randn(1, 400, 4) + 20
    for _ in range(100):
        quantiser(spread)
    assert perplexity(quantiser.codes(spread).mT, 32)[0] > 16
    alone = Residual(1, 32, 4, least=0.0).train()  # without the moving
    torch.manual_seed(0)
    for _ in range(20):
        alone(torch.randn(1, 200, 4) * 0.001 + 5)
    for _ in range(100):
        alone(spread)
    assert perplexity(alone.codes(spread).mT, 32)[0] < 4


def test_the_perplexity_is_that_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Coding(width=4, books=1, size=16, latent=8)
    task.codes, other = [torch.zeros(1, 1, 5, dtype=torch.long)], torch.ones(1, 1, 5, dtype=torch.long)
    for ranks, found in (({}, 1), ({1: other}, 2)):
        monkeypatch.setattr(task, "gather", lambda own, ranks=ranks: own | ranks)
        assert task._perplexity()[0] == pytest.approx(found)


def test_gradients_pass_through_the_codes_and_measures_know_equals() -> None:
    codec = tiny().train()
    x = torch.randn(2, 3200).clamp(-1, 1)
    back, left = codec(x)
    (spectral_distance(back, x, 8000) + left).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in codec.parameters())
    assert spectral_distance(x, x, 8000) == 0
    assert spectral_distance(0.5 * x, x, 8000) < spectral_distance(torch.zeros_like(x), x, 8000)
    even = torch.arange(16).repeat(4).view(1, 1, -1)
    assert perplexity(even, 16)[0] == pytest.approx(16)
    assert perplexity(torch.zeros_like(even), 16)[0] == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"size": 1}, {"codebooks": 0}])
def test_codecs_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Codec(**wrong)


def test_rendered_harmony_in_and_sound_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way through the command line: a codec, a model of its codes, and a WAV file."""
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.max_steps", "3"]
    pieces = {"source": "harmony", "train": 1, "val": 1, "test": 1}
    settings = {
        "codec": {
            "model": {"class_path": "Coding", "init_args": {"rate": 8000, "width": 4, "size": 16, "latent": 8}},
            "data": {"class_path": "RenderedChorales", "init_args": {"rate": 8000, "batch": 4, **pieces}},
        },
        "codes": {
            "model": {
                "class_path": "Sounding",
                "init_args": {"stack": {"dim": 16, "depth": 1, "heads": 2, "causal": True, "position": "Rotary"}},
            },
            "data": {
                "class_path": "SoundCodes",
                "init_args": {"codec": str(tmp_path / "codec"), "seconds": 1.0, **pieces},
            },
        },
    }
    for name, plain in settings.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(plain))
        run = str(tmp_path / name)
        assert main(["fit", "--config", str(tmp_path / f"{name}.yaml"), "--run", run, *quiet]) == 0
        capsys.readouterr()
        assert main(["test", run, *quiet[:2]]) == 0
        said = dict(line.split(": ", 1) for line in capsys.readouterr().out.strip().splitlines())
        assert float(said["distance" if name == "codec" else "nll"]) > 0
        assert ("perplexity" in said) == (name == "codec")
    data = SoundCodes(tmp_path / "codec", **pieces)
    data.check_origin(tmp_path / "codes")
    next(data.codec.parameters()).data.add_(1.0)
    with pytest.raises(UserError, match="the codes of another codec"):
        data.check_origin(tmp_path / "codes")
    shutil.copytree(tmp_path / "codes", tmp_path / "broken")
    (tmp_path / "broken" / "codec" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot be read"):
        data.check_origin(tmp_path / "broken")
    out = tmp_path / "piece"
    assert main(["compose", str(tmp_path / "codes"), "--bars", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(out.with_suffix(".wav")), str(out.with_suffix(".png"))]
    with wave.open(io.BytesIO(out.with_suffix(".wav").read_bytes())) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (1, 8000, 62 * 320)
    assert main(["compose", str(tmp_path / "codes"), "--melody", "a.mid", "--out", str(tmp_path / "b")]) == 2
    assert "--melody needs a model of notes" in capsys.readouterr().err
    assert main(["compose", str(tmp_path / "codec")]) == 2
    assert "holds a Codec, which does not compose" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds a MusicLM, expected a Codec"):
        open_network(tmp_path / "codes", Codec)
    with pytest.raises(UserError, match="holds no model"):
        SoundCodes(tmp_path)
    described = tmp_path / "codec" / "config.json"
    other = json.loads(described.read_text())
    other["settings"]["size"] *= 2
    described.write_text(json.dumps(other))
    with pytest.raises(UserError, match="not weights of this network"):
        open_network(tmp_path / "codec", Codec)
    described.write_text("{}")
    with pytest.raises(UserError, match="no description of a network"):
        open_network(tmp_path / "codec", Codec)

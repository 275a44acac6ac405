"""A small neural codec: sound to k codes a frame and back. No Lightning here.

Axes: b clips, n samples, f frames, d width of the latent, k codebooks, v codes of a book.

Convolutions bring sound down to frames, a residual quantiser names each frame by k codes, each book coding what those
before it left over (Zeghidour et al. 2021, section III-C), and transposed convolutions bring it back. Codebooks follow
their vectors by moving means (van den Oord et al. 2017, appendix A.1); a code that is hardly chosen moves to a vector
of the batch, so that books stay in use (Zeghidour et al. 2021). The measure of training is the distance of log-mel
spectrograms at several resolutions.
"""

import math

import torch
import torch.nn.functional as F
import torchaudio.functional as sound
from einops import rearrange, reduce
from torch import Tensor, nn

from zoo.core.network import Network, arguments

MEL = ((256, 32), (512, 48), (1024, 64), (2048, 80))  # window in samples, bands


class Codec(Network):
    """Sound "b n" in [-1, 1] at `rate` samples per second to codes "b k f" and back.

    A frame has 320 samples. ValueError where a setting makes no codec.
    """

    hop = 320
    strides = (4, 4, 4, 5)

    def __init__(self, rate: int = 16_000, width: int = 24, codebooks: int = 4, size: int = 256, latent: int = 64):
        super().__init__()
        self.settings = arguments(locals())
        for name, value in {"rate": rate, "width": width, "codebooks": codebooks, "latent": latent}.items():
            if value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1")
        if size < 2:
            raise ValueError(f"size ({size}) must be at least 2 codes")
        self.rate = rate
        widths = [width * 2 ** min(i, 2) for i in range(len(self.strides))]
        down, up = [], []
        for before, after, stride in zip([1, *widths], widths, self.strides, strict=False):
            down += [nn.Conv1d(before, after, 2 * stride, stride, stride - stride // 2), Unit(after)]
        for after, before, stride in reversed(list(zip([widths[0], *widths], widths, self.strides, strict=False))):
            # odd strides lack one sample of `stride` a frame without the output padding
            back = nn.ConvTranspose1d(before, after, 2 * stride, stride, stride - stride // 2, stride % 2)
            up += [Unit(before), back]
        # frames of one size, spread in every direction: or books that begin with a batch's vectors fall on one point
        spread = nn.BatchNorm1d(latent, affine=False)
        self.encoder = nn.Sequential(*down, nn.Conv1d(widths[-1], latent, 3, padding=1), spread)
        self.quantiser = Residual(codebooks, size, latent)
        self.decoder = nn.Sequential(
            nn.Conv1d(latent, widths[-1], 3, padding=1), *up, nn.ELU(), nn.Conv1d(widths[0], 1, 7, padding=3)
        )

    def frames(self, x: Tensor) -> Tensor:
        """Sound "b n" as latent frames "b f d"; its end is filled with silence to whole frames."""
        whole = F.pad(x, (0, -x.shape[-1] % self.hop))
        return rearrange(self.encoder(whole.unsqueeze(1))[..., : whole.shape[-1] // self.hop], "b d f -> b f d")

    def sound(self, frames: Tensor) -> Tensor:
        """Latent frames "b f d" as sound "b n"."""
        out: Tensor = self.decoder(rearrange(frames, "b f d -> b d f"))[:, 0]
        return out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sound "b n" to what comes back, and the mean square that the codes leave of the latent frames."""
        frames, left = self.quantiser(self.frames(x))
        return self.sound(frames)[:, : x.shape[-1]], left

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Sound "b n" to codes "b k f"."""
        return rearrange(self.quantiser.codes(self.frames(x)), "b f k -> b k f")

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes "b k f" to sound "b n" in [-1, 1]."""
        return self.sound(self.quantiser.vectors(rearrange(codes, "b k f -> b f k"))).clamp(-1, 1)


class Unit(nn.Module):
    """A residual unit: what a wider neighbourhood adds to each frame (Zeghidour et al. 2021, figure 3)."""

    def __init__(self, width: int):
        super().__init__()
        self.wide, self.narrow = nn.Conv1d(width, width, 5, padding=2), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.elu(self.wide(F.elu(x))))


class Residual(nn.Module):
    """k codebooks of v vectors, each for what those before it left over."""

    def __init__(self, codebooks: int, size: int, width: int, *, keep: float = 0.95, least: float = 0.1):
        super().__init__()
        self.keep = keep  # of a moving mean at each step
        self.least = least  # a code chosen more rarely than this share of an even one's moves elsewhere
        self.register_buffer("books", torch.randn(codebooks, size, width) / math.sqrt(width))
        # nothing was chosen yet: the first batch gives every code a vector of its own
        self.register_buffer("count", torch.zeros(codebooks, size))
        self.register_buffer("total", torch.zeros(codebooks, size, width))

    def choose(self, x: Tensor, book: int) -> Tensor:
        """The nearest vector of a book for each of "t d": "t"."""
        vectors = self.books[book]
        return (vectors.square().sum(-1) - 2 * x @ vectors.T).argmin(-1)

    def codes(self, frames: Tensor) -> Tensor:
        """Frames "b f d" as codes "b f k"."""
        left, found = frames.flatten(0, 1), []
        for book in range(len(self.books)):
            found.append(self.choose(left, book))
            left = left - self.books[book, found[-1]]
        return rearrange(torch.stack(found, -1), "(b f) k -> b f k", b=len(frames))

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes "b f k" as frames "b f d"."""
        books = torch.arange(len(self.books), device=codes.device)
        return reduce(self.books[books, codes], "b f k d -> b f d", "sum")

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames "b f d" as their codes' vectors, with the gradient passed straight through, and what is left over."""
        flat = frames.flatten(0, 1)
        left = flat
        for book in range(len(self.books)):
            code = self.choose(left.detach(), book)
            vectors = self.books[book, code]
            if self.training:
                self._follow(left.detach(), code, book)
            left = left - vectors
        quantised = flat - left
        out = flat + (quantised - flat).detach()
        return out.view_as(frames), left.square().mean()

    @torch.no_grad()
    def _follow(self, x: Tensor, code: Tensor, book: int) -> None:
        chosen = F.one_hot(code, self.books.shape[1]).to(x.dtype)
        self.count[book].lerp_(chosen.sum(0), 1 - self.keep)
        self.total[book].lerp_(chosen.T @ x, 1 - self.keep)
        even = self.count[book].sum() / len(self.count[book])
        idle = self.count[book] < self.least * even
        if bool(idle.any()):
            drawn = x[torch.randint(len(x), (int(idle.sum()),), device=x.device)]
            self.count[book][idle] = even
            self.total[book][idle] = drawn * even
        self.books[book] = self.total[book] / self.count[book].clamp(min=1e-5).unsqueeze(-1)


def spectral_distance(x: Tensor, y: Tensor, rate: int) -> Tensor:
    """The mean distance of log-mel spectrograms of sounds "b n" over several resolutions, in nepers."""
    apart = [(_log_mel(x, rate, n, bands) - _log_mel(y, rate, n, bands)).abs().mean() for n, bands in MEL]
    return torch.stack(apart).mean()


def _log_mel(x: Tensor, rate: int, window: int, bands: int) -> Tensor:
    """Log energies "b bands frames"."""
    spectrum = torch.stft(
        x, window, window // 4, window=torch.hann_window(window, device=x.device), return_complex=True
    ).abs()
    banks = sound.melscale_fbanks(window // 2 + 1, 0.0, rate / 2, bands, rate).to(x.device)
    return torch.log(banks.T @ spectrum + 1e-3)


def perplexity(codes: Tensor, size: int) -> Tensor:
    """How many of a book's `size` codes are in even use: exp of the entropy of each book of "b k f", "k"."""
    share = F.one_hot(codes, size).float().mean((0, 2))
    return torch.exp(-(share * share.clamp(min=1e-9).log()).sum(-1))

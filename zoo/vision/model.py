"""Vision models: images in, classes or pixels out; between them the core. No Lightning here.

Axes: b images, c channels, H W pixels, p patches of an image, t tokens of a batch, d width, v classes, k heads of
a classifier.

An image is a sequence of patches behind a few learned tokens: class, distillation, registers, in this order. All else
is in the stack's settings: a norm before the blocks is its `embed_norm`, LayerScale and stochastic depth its
`layer_scale` and `drop_path`.
"""

import torch
from einops import repeat
from torch import Tensor, nn

from zoo.core import Layout, Network, NoNorm, Norm, Stack, StackConfig
from zoo.core.init import Scheme, initialise
from zoo.core.linear import Linear
from zoo.core.network import arguments
from zoo.core.pool import First, Pool
from zoo.core.position import Learned
from zoo.vision.patches import LinearPatches, Patches, patchify, resize_positions

CLASS_TOKEN = First()


class ImageEncoder(Network):
    """What the vision models share: patches and prefix tokens through a stack. ValueError where they do not fit.

    `prefix` learned tokens stand before the patches. `prefix_placed`: they have rows of their own in a table of
    positions, before the patches' (ViT); else they have no place. Schemes over two axes (sines, rotations) place
    patches by row and column, and prefix tokens nowhere.
    """

    def __init__(
        self, stack: StackConfig, image_size: int, patches: Patches, channels: int, prefix: int, *, prefix_placed: bool
    ):
        super().__init__()
        if stack.causal or stack.cross:
            raise ValueError("every patch sees the whole image: the stack must be neither causal nor cross")
        if min(channels, image_size) < 1 or prefix < 0:
            raise ValueError(f"image_size ({image_size}) and channels ({channels}) must be at least 1")
        self.image_size, self.channels, self.grid = image_size, channels, patches.grid(image_size)
        self.prefixes = prefix
        self.rows = self.grid**2 + (prefix if prefix_placed else 0)  # of a table of positions
        if isinstance(stack.position, Learned) and stack.position.length != self.rows:
            raise ValueError(
                f"position.length ({stack.position.length}) must be {self.rows}: "
                f"{self.grid} x {self.grid} patches, {self.rows - self.grid**2} tokens before them"
            )
        self.patches = patches.build(channels, stack.dim)
        self.prefix = nn.Parameter(torch.zeros(prefix, stack.dim))
        self.stack = Stack(stack)
        self.prefix_placed = prefix_placed
        self.tokens = prefix + self.grid**2  # of an image
        self.counted = not stack.position.many_axes and (prefix_placed or not prefix)  # places are 0, 1, 2 ...

    def places(self, stack: StackConfig, prefix_placed: bool) -> Tensor:
        """The position of every token of an image, "n" or "n a". No buffer: what a file does not hold stays empty where
        a network is made without memory first."""
        device = self.prefix.device
        if stack.position.many_axes:
            side = torch.arange(self.grid, device=device)
            cells = torch.cartesian_prod(side, side)
            return torch.cat([torch.full((self.prefixes, 2), -1, device=device), cells])
        first = 0 if prefix_placed else -self.prefixes
        return torch.arange(first, first + self.tokens, device=device)

    def states(self, images: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Layout]:
        """Images "b c H W" to states "t d" and their layout: prefix tokens, then patches in reading order.

        `keep` ("b p"): the patches that are seen; the others are left out before the stack. ValueError for images of
        another size.
        """
        expected = (self.channels, self.image_size, self.image_size)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"images of shape {tuple(images.shape)}: this model takes (b, {str(expected)[1:]}")
        batch = images.shape[0]  # len() would tie an exported network to it
        x = torch.cat([repeat(self.prefix, "r d -> b r d", b=batch), self.patches(images)], 1)
        if keep is not None:
            keep = torch.cat([keep.new_ones(batch, self.prefixes), keep], 1)
        layout = self.layout(batch, keep)
        return self.stack(layout.take(x, keep), layout), layout

    def layout(self, batch: int, keep: Tensor | None = None) -> Layout:
        """The layout of `batch` images' tokens, of those alone that `keep` ("b n") marks."""
        if keep is None and self.counted:
            return Layout.dense(batch, self.tokens, device=self.prefix.device)
        places = self.places(self.stack.config, self.prefix_placed)
        pos = places.expand(batch, *places.shape)
        return Layout.dense(batch, self.tokens, pos=pos) if keep is None else Layout.from_keep(keep, pos=pos)

    def adapt(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A table of positions for images of another size, resized to this network's; all else as it is."""
        name = "stack.position.table.weight"
        if name not in weights or not isinstance(self.stack.config.position, Learned):
            return weights
        prefix = self.rows - self.grid**2
        return weights | {name: resize_positions(weights[name], self.rows, prefix)}


class ViT(ImageEncoder):
    """A classifier of images (Dosovitskiy et al. 2021, section 3.1; DeiT: Touvron et al. 2021, section 4).

    `pool`: what the head reads: First and Pooler take the class token, the others the patches alone. `head_norm`: a
    norm of what was pooled (timm's fc_norm; the stack's `final_norm` is then mostly none). With `distillation` a second
    token has a head of its own, and the logits are the mean of both.
    """

    def __init__(
        self,
        stack: StackConfig,
        classes: int,
        image_size: int,
        patches: Patches,
        *,
        channels: int = 3,
        class_token: bool = True,
        distillation: bool = False,
        registers: int = 0,
        prefix_placed: bool = True,
        pool: Pool = CLASS_TOKEN,
        head_norm: Norm | None = None,
        init: Scheme = "truncated",
    ):
        head_norm = NoNorm() if head_norm is None else head_norm
        super().__init__(
            stack, image_size, patches, channels, class_token + distillation + registers, prefix_placed=prefix_placed
        )
        self.settings = arguments(locals())
        if classes < 1:
            raise ValueError(f"classes ({classes}) must be at least 1")
        if registers < 0:
            raise ValueError(f"registers ({registers}) must be at least 0")
        name = type(pool).__name__
        if pool.of_first() and not class_token:
            raise ValueError(f"pool {name} reads the class token: set class_token, or pool the patches (Mean)")
        if distillation and not pool.of_first():
            raise ValueError(f"distillation goes with pool First, not {name}: each token has its own head")
        self.pool = pool.build(stack)
        # the first token that each head's pool sees
        self.begins = [*range(1 + distillation)] if pool.of_first() else [self.prefixes]
        self.head_norm = head_norm.build(stack.dim)
        self.heads = nn.ModuleList(Linear(stack.dim, classes) for _ in self.begins)
        initialise(self, init)
        nn.init.trunc_normal_(self.prefix, std=0.02)

    def features(self, images: Tensor) -> Tensor:
        """Images "b c H W" to what the heads read, "k b d": one row, or with distillation two."""
        states, layout = self.states(images)
        rows = layout.pad(states)
        seen = [rows[:, begin:] for begin in self.begins]
        pooled = [self.pool(x.flatten(0, 1), Layout.of(x, None)) for x in seen]
        out: Tensor = self.head_norm(torch.stack(pooled))
        return out

    def scores(self, images: Tensor) -> Tensor:
        """Logits of each head, "k b v": class, and with distillation the teacher's."""
        return torch.stack([head(x) for head, x in zip(self.heads, self.features(images), strict=True)])

    def forward(self, images: Tensor) -> Tensor:
        """Images "b c H W" to logits "b v": the mean of the heads."""
        return self.scores(images).mean(0)

    def resized(self, image_size: int) -> "ViT":
        """The same weights in a network for images of another size, its table of positions resized."""
        stack: StackConfig = self.settings["stack"]
        patches: Patches = self.settings["patches"]
        if isinstance(stack.position, Learned):
            rows = patches.grid(image_size) ** 2 + self.rows - self.grid**2
            stack = stack.replace(position=Learned(rows, stack.position.offset))
        other = ViT(**(self.settings | {"stack": stack, "image_size": image_size}))
        other.load_state_dict(other.adapt(self.state_dict()))
        return other.train(self.training)


class MaskedAutoencoder(ImageEncoder):
    """Sees a part of the patches and paints the others. He et al. 2022.

    The encoder's sequence holds the visible patches only; a light `decoder` stack has the hidden ones too, all as one
    learned token at their places. `normalised`: what is painted is each patch less its mean, over its standard
    deviation (section 4.1).
    """

    def __init__(
        self,
        stack: StackConfig,
        decoder: StackConfig,
        image_size: int,
        patches: Patches,
        *,
        channels: int = 3,
        class_token: bool = True,
        prefix_placed: bool = True,
        normalised: bool = True,
        init: Scheme = "xavier",
    ):
        if not isinstance(patches, LinearPatches):
            raise ValueError("a masked autoencoder needs LinearPatches: a stem's convolutions would see hidden patches")
        super().__init__(stack, image_size, patches, channels, int(class_token), prefix_placed=prefix_placed)
        self.settings = arguments(locals())
        if self.grid < 2:
            raise ValueError(
                f"an image of one patch ({patches.size} pixels) cannot be seen in part: give smaller patches"
            )
        if decoder.causal or decoder.cross:
            raise ValueError("the decoder paints all patches at once: it must be neither causal nor cross")
        self.size, self.normalised = patches.size, normalised
        if isinstance(decoder.position, Learned) and decoder.position.length != self.tokens:
            raise ValueError(f"the decoder's position.length must be {self.tokens}, got {decoder.position.length}")
        self.to_decoder = Linear(stack.dim, decoder.dim)
        self.hidden = nn.Parameter(torch.zeros(decoder.dim))
        self.decoder = Stack(decoder)
        self.to_pixels = Linear(decoder.dim, channels * patches.size**2)
        initialise(self, init)
        for token in (self.prefix, self.hidden):
            nn.init.normal_(token, std=0.02)

    def forward(self, images: Tensor, keep: Tensor) -> Tensor:
        """Images "b c H W", of which patches `keep` ("b p") are seen, to all patches painted, "b p (c ph pw)"."""
        states, layout = self.states(images, keep)
        seen = torch.cat([keep.new_ones(keep.shape[0], self.prefixes), keep], 1)
        x = layout.give(self.to_decoder(states), seen)
        x = torch.where(seen.unsqueeze(-1), x, self.hidden.to(x.dtype))
        places = self.places(self.decoder.config, True)
        whole = Layout.dense(*seen.shape, pos=places.expand(seen.shape[0], *places.shape))
        x = self.decoder(x.flatten(0, 1), whole)
        return self.to_pixels(whole.pad(x)[:, self.prefixes :])

    def target(self, images: Tensor) -> Tensor:
        """What should be painted, "b p (c ph pw)"."""
        patches = patchify(images, self.size)
        if not self.normalised:
            return patches
        variance, mean = torch.var_mean(patches, -1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()

    def draw(self, batch: int, share: float, generator: torch.Generator | None = None) -> Tensor:
        """Patches to keep, "b p": all but `share` of each image's, at least one of either kind, drawn at random."""
        places = self.grid**2
        kept = min(max(round(places * (1 - share)), 1), places - 1)
        order = torch.rand(batch, places, generator=generator, device=self.prefix.device).argsort(-1)
        return order.argsort(-1) < kept

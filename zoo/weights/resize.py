"""Trained models at other sizes: larger images, longer texts, more tokens. Axes: n positions, v tokens, d width."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from zoo.core import Learned, StackConfig
from zoo.core.network import Network
from zoo.errors import UserError
from zoo.vision.images import Preprocess
from zoo.vision.model import ViT
from zoo.weights.families import Origin, family_of
from zoo.weights.load import Loaded


def resize_image(model: Network, size: int) -> Network:
    """For images of `size` pixels: the table of positions is interpolated over the grid, prefix tokens keep theirs."""
    if not isinstance(model, ViT):
        raise UserError(f"a {type(model).__name__} takes no images that could have another size")
    try:
        return model.resized(size)
    except ValueError as error:
        raise UserError(str(error)) from None


def resize_positions(model: Network, length: int) -> Network:
    """For sequences of `length` tokens: every learned table of positions gets as many rows.

    A shorter table is the beginning of the old one, so that what still fits is computed as before; a longer one
    stretches it, linearly between neighbours. UserError for a model without such a table.
    """
    if length < 1:
        raise UserError(f"positions ({length}) must be at least 1")
    stacks = {
        name: value.replace(position=replace(value.position, length=length))
        for name, value in model.settings.items()
        if isinstance(value, StackConfig) and isinstance(value.position, Learned)
    }
    if not stacks or isinstance(model, ViT):
        raise UserError(f"this {type(model).__name__} has no table of positions that could be longer or shorter")
    offset = max(value.position.offset for value in stacks.values())
    return _changed(model, stacks, lambda table, rows: stretch(table, rows, offset))


def resize_vocabulary(model: Network, size: int) -> Network:
    """For `size` tokens: new rows of tables and heads are the mean of the old (Hewitt 2021), so that a new token is
    as likely as an average one; fewer are the first. UserError where a token that the model needs would be cut off.
    """
    old = model.settings.get("vocab_size")
    if old is None or "codebooks" in model.settings:
        raise UserError(f"a {type(model).__name__} has no vocabulary that could be resized")
    needed = [value for name in ("pad", "start", "end") if type(value := model.settings.get(name)) is int]
    needed += model.settings.get("ends", ())
    if size <= max([*needed, 0]):
        raise UserError(
            f"vocabulary ({size}) must be above {max([*needed, 0])}, the id of a token that the model needs"
        )
    changes: dict[str, Any] = {"vocab_size": size}
    if model.settings.get("source_vocab_size") is not None and model.settings["share_embeddings"]:
        changes["source_vocab_size"] = size
    return _changed(model, changes, more_rows)


def stretch(table: Tensor, rows: int, offset: int = 0) -> Tensor:
    """A table "n d" of positions with `rows` rows, of which the first `offset` stay what they are."""
    if rows <= len(table):
        return table[:rows]
    places = rearrange(table[offset:], "n d -> 1 d n").float()
    longer = F.interpolate(places, size=rows - offset, mode="linear", align_corners=True)
    return torch.cat((table[:offset], rearrange(longer, "1 d n -> n d").to(table.dtype)))


def more_rows(table: Tensor, rows: int) -> Tensor:
    """The first `rows` rows of a table "v ..."; where it has fewer, their mean for the others."""
    if rows <= len(table):
        return table[:rows]
    mean = table.double().mean(0, keepdim=True).to(table.dtype)
    return torch.cat((table, mean.expand(rows - len(table), *table.shape[1:])))


@torch.no_grad()
def _changed(model: Network, changes: dict[str, Any], resize: Callable[[Tensor, int], Tensor]) -> Network:
    """The network with other settings; tensors of other lengths are resized, the others kept."""
    other = type(model)(**model.settings | changes)
    like = next(model.parameters())
    other.to(like.device, like.dtype).train(model.training)
    old, new = model.state_dict(), other.state_dict()
    for name, value in new.items():
        value.copy_(old[name] if old[name].shape == value.shape else resize(old[name], len(value)))
    return other


def resized(
    loaded: Loaded[Network], *, image: int | None = None, positions: int | None = None, vocabulary: int | None = None
) -> Loaded[Network]:
    """A loaded model at other sizes, with what its published config.json says of them."""
    model, origin = loaded.model, loaded.origin
    for size, resize, what in (
        (image, resize_image, "image"),
        (positions, resize_positions, "positions"),
        (vocabulary, resize_vocabulary, "vocabulary"),
    ):
        if size is None:
            continue
        model = resize(model, size)
        if origin is not None:
            origin = _published(origin, model, what, size)
    tokens = loaded.tokenizer
    if image is not None and isinstance(tokens, Preprocess):
        tokens = tokens.at(image)
    config = loaded.config | {"settings": model.to_plain()}
    return replace(loaded, model=model, tokenizer=tokens, config=config, origin=origin)


def _published(origin: Origin, model: Network, what: str, size: int) -> Origin:
    """What was published with a model that has another size now: the keys that say it, and what nothing reads."""
    family, config = family_of(origin.architecture, Path("config.json")), copy.deepcopy(origin.config)
    keys, unused = [family.sizes[what]], origin.unused
    if what == "vocabulary":
        if targets := family.sizes.get("targets"):
            keys = [targets] if model.settings["source_vocab_size"] is not None else [*keys, targets]
        unused = {
            name: more_rows(tensor, size)
            if any(re.fullmatch(pattern, name.removeprefix(family.prefix)) for pattern in family.by_token)
            else tensor
            for name, tensor in unused.items()
        }
    for path in keys:
        *outer, key = path.split(".")
        place = config
        for name in outer:
            place = place.setdefault(name, {})
        # timm gives both sides
        place[key] = [size, size] if isinstance(place.get(key), list) else size
    return replace(origin, config=config, unused=unused)

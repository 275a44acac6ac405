"""Tokenizers that other libraries published: what they have in common, and those of a tokenizer.json.

Such a file says all but what its special tokens are for. The files beside it do, and some say more, or otherwise.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers

from zoo.errors import UserError
from zoo.text.tokens import ROLES_FILE, SENTINEL, Tokenizer, keep, read

# Classes that go by their tokenizer.json alone, whatever else is said of letters and spaces.
BY_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
# In what their files call them; the first that is there counts.
ROLES = {
    "pad": ("pad_token",),
    "start": ("bos_token", "cls_token"),
    "end": ("eos_token", "sep_token"),
    "mask": ("mask_token",),
}
# Files beside it that may say so. The oldest folders have none that do: there the usual names are looked for.
SAID = (ROLES_FILE, "tokenizer_config.json")
USUAL = {
    "pad": ("[PAD]", "<pad>"),
    "start": ("[CLS]", "<s>", "<|begin_of_text|>", "<|endoftext|>"),
    "end": ("[SEP]", "</s>", "<|end_of_text|>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>"),
}


def said_beside(folder: Path) -> dict[str, Any]:
    """What the files beside a tokenizer say of it; UserError where one is broken."""
    said: dict[str, Any] = {}
    for name in SAID:
        if (folder / name).is_file():
            try:
                found = json.loads((folder / name).read_text(encoding="utf-8"))
                said |= {key: value for key, value in found.items() if value is not None}
            except (ValueError, AttributeError) as error:
                raise UserError(f"{folder / name}: not settings of a tokenizer ({error})") from None
    return said


def name_in(value: Any) -> str:
    """The name of a token, given as that or as a description that has it as its content; "" where there is none."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) else ""


def roles(said: dict[str, Any], known: Collection[str], where: Path) -> dict[str, str]:
    """The names of special tokens by what they are for: as is said, else the usual ones among those that are known.

    UserError where what is said is no name.
    """
    names: dict[str, str] = {}
    for role, keys in ROLES.items():
        for key in keys:
            if role not in names and key in said:
                names[role] = name_in(said[key])
                if not names[role]:
                    raise UserError(f"{where}: {key} is {said[key]!r}, the name of a token is needed")
    for role, usual in USUAL.items():
        for name in usual:
            if role not in names and name in known:
                names[role] = name
    return names


def agreeing(inner: tokenizers.Tokenizer, said: dict[str, Any], folder: Path) -> tokenizers.Tokenizer:
    """What a tokenizer.json holds, with what the files beside it say otherwise and besides, as the library that reads
    them goes by it: lower case, the space before a text, tokens that it has not.

    UserError where they cannot be reconciled.
    """
    alone = said.get("tokenizer_class") in BY_FILE
    lower, spaced = (None if alone else said.get(key) for key in ("do_lower_case", "add_prefix_space"))
    tokens = _added(said, folder)
    there = {token.content for token in inner.get_added_tokens_decoder().values()}
    missing = {number: token for number, token in sorted(tokens.items()) if token.content not in there}
    if not missing and not isinstance(lower, bool) and not isinstance(spaced, bool):
        return inner
    whole = json.loads(inner.to_str())
    parts, changed = [*_parts(whole["normalizer"]), *_parts(whole["pre_tokenizer"])], False
    for part in parts:
        for kind, key, value in (("BertNormalizer", "lowercase", lower), ("ByteLevel", "add_prefix_space", spaced)):
            if part["type"] == kind and isinstance(value, bool) and part[key] != value:
                part[key], changed = value, True
        always = part.get("prepend_scheme", "always") != "never"
        if part["type"] in ("Metaspace", "Prepend") and isinstance(spaced, bool) and spaced != always:
            raise UserError(f"{folder}: add_prefix_space is {spaced}, which its tokenizer.json contradicts")
    inner = tokenizers.Tokenizer.from_str(json.dumps(whole)) if changed else inner
    # where a text is normalised by a sign before it, a token's name would be looked for with that sign before it too
    prepends = any(part["type"] == "Prepend" for part in parts)
    for number, token in missing.items():
        if prepends:
            token.normalized = False
        inner.add_special_tokens([token]) if token.special else inner.add_tokens([token])
        if (found := inner.token_to_id(token.content)) != number:
            raise UserError(
                f"{folder}: {token.content!r} should be token {number}, by its tokenizer.json it is {found}"
            )
    return inner


def _parts(whole: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A step of a tokenizer.json, or the steps that it is a sequence of."""
    if whole is None:
        return []
    steps = whole.get("normalizers") or whole.get("pretokenizers")
    return [whole] if steps is None else [part for step in steps for part in _parts(step)]


def _added(said: dict[str, Any], folder: Path) -> dict[int, tokenizers.AddedToken]:
    """Tokens by their ids that tokenizer_config.json names, or the older file that was for them alone; UserError where
    one is broken."""
    found, path = said.get("added_tokens_decoder"), folder / "added_tokens.json"
    try:
        if found is not None:
            return {int(number): tokenizers.AddedToken(**token) for number, token in found.items()}
        if not path.is_file() or said.get("tokenizer_class") in BY_FILE:
            return {}
        special = {*map(name_in, said.values())}
        return {
            int(number): tokenizers.AddedToken(name, special=name in special, normalized=name not in special)
            for name, number in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: its added tokens are not ids and tokens ({error})") from None


class Published(Tokenizer):
    """Base of the published ones, which have special tokens of their own by `names`.

    `encode` gives what the library that published it gives, special tokens included, so `around` and `closed` add none;
    the name of a special token in a text is that token.
    """

    def __init__(self, names: dict[str, str], where: Path):
        self.names, self.where = names, where

    def _id(self, role: str) -> int:
        found = self.id_of(self.names[role]) if self.has(role) else None
        if found is None:
            raise UserError(f"{self.where}: has no token for {role}")
        return found

    @property
    def pad(self) -> int:  # type: ignore[override]
        """Any token where it has none: what stands at padding is never read."""
        return self._id("pad") if self.has("pad") else 0

    @property
    def start(self) -> int:  # type: ignore[override]
        return self._id("start")

    @property
    def end(self) -> int:  # type: ignore[override]
        return self._id("end")

    @property
    def mask(self) -> int:  # type: ignore[override]
        return self._id("mask")

    def has(self, role: str) -> bool:
        return role in self.names

    @property
    def ends(self) -> bool:
        return self.has("end") and self.encode("")[-1:] == [self.end]

    def special(self) -> Iterable[int]:
        """Ids that no text is made of."""
        raise NotImplementedError

    @property
    def ordinary(self) -> tuple[int, int]:
        """The longest range of ids that holds no special token."""
        bounds = [-1, *sorted(self.special()), self.vocab_size]
        return max(((a + 1, b) for a, b in pairwise(bounds)), key=lambda ids: ids[1] - ids[0])

    def with_sentinels(self, count: int) -> Tokenizer:
        """None can be added: the model that it was published with has no rows for them."""
        raise UserError(f"{self.where}: has no sentinels ({SENTINEL.format(0)}) for dropped spans")

    def around(self, ids: Sequence[int]) -> list[int]:
        return list(ids)

    def closed(self, ids: Sequence[int]) -> list[int]:
        return list(ids)

    def join(self, pieces: Sequence[str], gaps: Sequence[int]) -> tuple[list[int], list[int]]:
        """Ids of the text with the names of the tokens in its gaps, and where those stand.

        UserError where such a name stands in the text besides.
        """
        names = [*map(self.name_of, gaps), ""]
        ids = self.encode("".join(piece + name for piece, name in zip(pieces, names, strict=True)))
        places = [place for place, token in enumerate(ids) if token in gaps]
        if len(places) != len(gaps):
            raise UserError(f"{', '.join(sorted({*names[:-1]}))} in a text is a gap to this model: leave it out")
        return ids, places


class PublishedTokenizer(Published):
    """A tokenizer.json with the special tokens that the files beside it name."""

    def __init__(self, inner: tokenizers.Tokenizer, names: dict[str, str], where: Path):
        super().__init__(names, where)
        self.bpe = inner
        inner.encode_special_tokens = False
        inner.no_truncation()
        inner.no_padding()

    @classmethod
    def load(cls, path: str | Path) -> "PublishedTokenizer":
        """UserError where the file is not a tokenizer."""
        path = Path(path)
        said = said_beside(path.parent)
        inner = agreeing(read(path), said, path.parent)
        added = {token.content for token in inner.get_added_tokens_decoder().values() if token.special}
        return cls(inner, roles(said, added, path.parent), path)

    def save(self, folder: Path) -> None:
        """Into a model's folder, with what its special tokens are for."""
        said = {ROLES[role][0]: name for role, name in self.names.items()}
        about = json.dumps(said, ensure_ascii=False, indent=1) + "\n"
        keep(folder, {self.filename: self.to_json(), ROLES_FILE: about})

    def special(self) -> Iterable[int]:
        return [i for i, token in self.bpe.get_added_tokens_decoder().items() if token.special]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [row.ids for row in self.bpe.encode_batch(list(texts))]

    def encode_pairs(
        self, pairs: Sequence[tuple[str, str]], most: int | None = None
    ) -> list[tuple[list[int], list[int]]]:
        if most is not None:
            self.bpe.enable_truncation(most, strategy="longest_first")
        try:
            return [(row.ids, row.type_ids) for row in self.bpe.encode_batch([tuple(pair) for pair in pairs])]
        finally:
            self.bpe.no_truncation()

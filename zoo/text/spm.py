"""SentencePiece models (Kudo and Richardson 2018) as they were published: two of Marian's (OPUS-MT), one of T5's.

The library `sentencepiece` cuts and joins. Marian cuts source and target by a model each, and a table says which token
a piece is; T5's pieces are tokens in their own order, and its sentinels come after them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from zoo.errors import UserError
from zoo.text.published import SAID, Published, name_in, roles, said_beside
from zoo.text.tokens import SENTINEL, keep

MARIAN = ("source.spm", "target.spm", "vocab.json")
TARGETS = "target_vocab.json"  # beside them, where the two languages have a table each
T5 = "spiece.model"
SIGNS = (MARIAN[0], T5)  # what such a tokenizer is known by in a folder
MOST = 10_000  # sentinels that a file may ask for
OPEN, CLOSE = ">>", "<<"  # around the language that is wanted, before the text of a model that writes several


class SentencePieces(Published):
    """Pieces of texts as tokens. `files`: what it is made of, by name, byte by byte.

    `source` and `target` cut a text, `ids` and `target_ids` say which token a piece is.
    """

    def __init__(
        self,
        source: SentencePieceProcessor,
        target: SentencePieceProcessor,
        ids: dict[str, int],
        target_ids: dict[str, int],
        said: dict[str, Any],
        where: Path,
        files: dict[str, bytes],
    ):
        controls = {"pad": "<pad>", "end": "</s>"}
        super().__init__({role: name for role, name in controls.items() if name in ids} | roles(said, (), where), where)
        self.source, self.target, self.ids, self.target_ids, self.files = source, target, ids, target_ids, files
        needed = {"<unk>", self.names.get("end", "</s>")}
        if not needed <= ids.keys() & target_ids.keys():
            raise UserError(f"{where}: its tokens lack one of {', '.join(sorted(needed))}")
        self.read = {token: piece for piece, token in ids.items()}
        self.written = {token: piece for piece, token in target_ids.items()}
        self.marks = {*map(self.name_of, self.sentinels)}
        more = said.get("additional_special_tokens")
        more = map(name_in, more) if isinstance(more, list) else ()
        self.marks |= {"<unk>", *self.names.values(), *more} & ids.keys()
        self.split = re.compile("(" + "|".join(map(re.escape, sorted(self.marks))) + ")")

    @classmethod
    def load(cls, path: str | Path) -> "SentencePieces":
        """From source.spm or spiece.model, and what lies beside; UserError where a file is missing or broken."""
        path = Path(path)
        folder, said = path.parent, said_beside(path.parent)
        names = [T5] if path.name == T5 else [*MARIAN, *([TARGETS] if said.get("separate_vocabs") is True else [])]
        beside = [name for name in SAID if (folder / name).is_file()]
        try:
            files = {name: (folder / name).read_bytes() for name in (*names, *beside)}
        except OSError as error:
            raise UserError(f"{folder / Path(error.filename).name}: {error.strerror}") from None
        if path.name == T5:
            model = _processor(path, files[T5])
            extra = said.get("extra_ids", 100)
            if type(extra) is not int or not 0 <= extra <= MOST:
                raise UserError(f"{folder}: extra_ids is {extra!r}, a number of sentinels is needed (at most {MOST})")
            pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
            pieces += [SENTINEL.format(number) for number in reversed(range(extra))]
            ids = {piece: token for token, piece in enumerate(pieces)}
            return cls(model, model, ids, ids, said, path, files)
        source, target = (_processor(folder / name, files[name]) for name in MARIAN[:2])
        ids, target_ids = (_table(folder / name, files[name]) for name in (MARIAN[2], names[-1]))
        return cls(source, target, ids, target_ids, said, path, files)

    def save(self, folder: Path) -> None:
        """Into a model's folder: its files as they were."""
        keep(folder, self.files)

    def to_json(self) -> str:
        """What tells it from others."""
        made = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items() if name not in SAID}
        return json.dumps(made | {"tokens": len(self.ids)})

    def id_of(self, name: str) -> int | None:
        return self.ids.get(name)

    def name_of(self, token: int) -> str:
        return self.written[token]

    @property
    def vocab_size(self) -> int:
        return max(self.target_ids.values()) + 1

    @property
    def sizes(self) -> None:
        """Not known: its pieces are of a text that was normalised, with a space before it."""

    def special(self) -> Iterable[int]:
        return [self.ids[name] for name in self.marks]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[*row, self.end] for row in self.pieces(texts)]

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        end = self.target_ids[self.names["end"]]
        return [[*self._cut(text, self.target, self.target_ids), end] for text in texts]

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._cut(text, self.source, self.ids) for text in texts]

    def _cut(self, text: str, model: SentencePieceProcessor, ids: dict[str, int]) -> list[int]:
        row = []
        for part in self.split.split(text):
            if part in self.marks:
                row.append(part)
                continue
            if part.startswith(OPEN) and (end := part.find(CLOSE)) != -1:
                row.append(part[: end + len(CLOSE)])
                part = part[end + len(CLOSE) :]
            row += model.encode(part, out_type=str)
        return [ids.get(piece, ids["<unk>"]) for piece in row]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens, and ids that are none, leave nothing."""
        return self._joined(ids, self.written, self.target)

    def decode_source(self, ids: Sequence[int]) -> str:
        return self._joined(ids, self.read, self.source)

    def _joined(self, ids: Sequence[int], names: dict[int, str], model: SentencePieceProcessor) -> str:
        pieces = [names[i] for i in ids if i in names]
        text: str = model.decode_pieces([piece for piece in pieces if piece not in self.marks])
        return text.replace("▁", " ").strip()

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [self.decode(row) for row in rows]


def _processor(path: Path, content: bytes) -> SentencePieceProcessor:
    """UserError where the file is none of SentencePiece's."""
    try:
        model = SentencePieceProcessor(model_proto=content)
        model.encode("")  # it takes an empty file, and complains when it is used
    except Exception as error:  # the library raises RuntimeError, and others as its version is
        raise UserError(f"{path}: no model of SentencePiece ({error})") from None
    return model


def _table(path: Path, content: bytes) -> dict[str, int]:
    """Tokens by their names; UserError where the file holds something else."""
    try:
        table = json.loads(content)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(table, dict) or not table or not all(type(i) is int and i >= 0 for i in table.values()):
        raise UserError(f"{path}: expected tokens by their names")
    return table

"""The tokenizer in a folder of a model of texts, whoever made it."""

from pathlib import Path

from zoo.data.files import InFolder
from zoo.text import spm
from zoo.text.published import SAID, PublishedTokenizer
from zoo.text.tokens import Tokenizer, is_own, read


class AnyTokenizer(InFolder):
    """What a folder of texts' models holds, trained here or published; its content says which."""

    filename = Tokenizer.filename
    others = spm.SIGNS

    @staticmethod
    def load(path: str | Path) -> Tokenizer:
        """UserError where the file is not a tokenizer."""
        path = Path(path)
        if path.name in AnyTokenizer.others:
            return spm.SentencePieces.load(path)
        own = is_own(read(path)) and not any((path.parent / name).is_file() for name in SAID)
        return Tokenizer.load(path) if own else PublishedTokenizer.load(path)

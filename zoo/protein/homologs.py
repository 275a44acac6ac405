"""Keeping relatives apart by shared words, where no aligner is at hand.

The rule: a protein is a relative of a set if it is in it, or shares at least `least` words of `word` residues with one
protein of that set; where one of the two has fewer different words (it is short, or repeats itself), all of that one's.
Words overlap, so three words of seven are one identical stretch of nine, or several shorter ones. It finds what an
aligner finds at high identity, and misses remote homologs. Of human proteins beside those of E. coli and yeast it
strikes one in six; of the same with their residues shuffled, one in a hundred.
"""

from collections.abc import Sequence

import numpy as np

from zoo.protein.tokens import RESIDUES

WORD, LEAST = 7, 3
AT_ONCE = 1 << 21  # words shared by pairs of proteins that are counted together
PROTEINS = 20_000  # of the set, whose words are made together


def relatives(proteins: Sequence[str], of: Sequence[str], *, word: int = WORD, least: int = LEAST) -> np.ndarray:
    """True for each of `proteins` that is one of `of`, or shares at least `least` words with one of them: "s"."""
    asked, row = _distinct(*_words(proteins, word))
    known, owner, their_sizes = _known(of, word, np.unique(asked))
    sizes = np.bincount(row, minlength=len(proteins)), their_sizes
    begin, end = np.searchsorted(known, asked), np.searchsorted(known, asked, side="right")
    order = np.flatnonzero(end > begin)
    order = order[np.argsort(row[order], kind="stable")]
    row, begin, count = row[order], begin[order], (end - begin)[order]
    there = set(of)
    found = np.array([protein in there for protein in proteins], dtype=bool)  # some are shorter than a word
    # every pair of a protein and one that it shares a word with, once a word: they may be as many as the square of the
    # proteins, so whole proteins are gone through until AT_ONCE pairs are together
    before = (count.cumsum() - count)[np.searchsorted(row, row)]
    for some in np.split(np.arange(len(row)), np.flatnonzero(np.diff(before // AT_ONCE)) + 1):
        times = count[some]
        first = np.repeat(begin[some] - (times.cumsum() - times), times)
        partner = owner[first + np.arange(len(first))]
        pairs, shared = np.unique(np.repeat(row[some], times) * (len(of) + 1) + partner, return_counts=True)
        mine, theirs = np.divmod(pairs, len(of) + 1)
        needed = np.minimum(sizes[0][mine], sizes[1][theirs]).clip(max=least)
        found[mine[shared >= needed]] = True
    return found


def _known(of: Sequence[str], word: int, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of some proteins the words that are `asked` for, in order with their owners; and how many different words each
    protein has, asked for or not."""
    words, owners, sizes = [asked[:0]], [asked[:0]], [asked[:0]]
    for first in range(0, len(of), PROTEINS):  # of a million proteins all words would not fit into memory
        some = of[first : first + PROTEINS]
        every, owner = _distinct(*_words(some, word))
        # np.isin would sort again what is in order
        wanted = np.searchsorted(asked, every, side="right") > np.searchsorted(asked, every)
        words.append(every[wanted])
        owners.append(owner[wanted] + first)
        sizes.append(np.bincount(owner, minlength=len(some)))
    found, owner = np.concatenate(words), np.concatenate(owners)
    order = np.argsort(found, kind="stable")
    return found[order], owner[order], np.concatenate(sizes)


def _distinct(words: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Words in order with their owners; one that a protein has twice counts once."""
    order = np.lexsort((owners, words))
    words, owners = words[order], owners[order]
    new = np.ones(len(words), dtype=bool)
    new[1:] = (np.diff(words) != 0) | (np.diff(owners) != 0)
    return words[new], owners[new]


def _words(proteins: Sequence[str], word: int) -> tuple[np.ndarray, np.ndarray]:
    """Every word of `word` residues as a number, and the protein that it stands in. Rare letters count as one."""
    table = np.full(128, len(RESIDUES), dtype=np.int64)
    table[[ord(c) for c in RESIDUES]] = np.arange(len(RESIDUES))
    words, owners = [], []
    for row, protein in enumerate(proteins):
        letters = table[np.frombuffer(protein.encode("ascii"), dtype=np.uint8)]
        count = max(len(letters) - word + 1, 0)
        number = np.zeros(count, dtype=np.int64)
        for shift in range(word):
            number = number * (len(RESIDUES) + 1) + letters[shift : shift + count]
        words.append(number)
        owners.append(np.full(count, row))
    return np.concatenate([*words, np.zeros(0, np.int64)]), np.concatenate([*owners, np.zeros(0, np.int64)])

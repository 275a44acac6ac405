"""Files named and encoded as those of the register's "sst", of sentences made here."""

from pathlib import Path


def write_sentences(folder: Path) -> None:
    folder.mkdir()
    questions = "".join(f"{i % 6} what is number {i} ?\n" for i in range(200))
    (folder / "TREC.train.all").write_bytes((questions + "4 a sisterðcity ?\n").encode("iso-8859-1"))
    (folder / "TREC.test.all").write_bytes(b"5 How far is it ?\n0 What is it ?\n")
    # in Windows' encoding: a dash, a quote and three dots that ISO-8859-1 has not
    (folder / "rt-polarity.all").write_bytes(b"0 a clich\xe9 \x96 it\x92s dull\x85 and long . \n1 fine . \n" * 30)
    for name, count in {"binary": 2, "fine": 5}.items():
        for split, lines in {"train": 300, "dev": 20, "test": 20}.items():
            text = "".join(f"{i % count} a film that is crème {split} {i}\n" for i in range(lines))
            (folder / f"stsa.{name}.{split}").write_text(text, encoding="utf-8")

"""The command line: a table of verbs. Standard library only, so that `zoo --help` answers at once.

Exit codes: 0 done, 1 a training that failed or a check that found something, 2 a fault in what was given (one line on
stderr), 130 interrupted, 143 terminated. A traceback means a bug of ours.
"""

import errno
import importlib
import os
import sys
from dataclasses import dataclass

from zoo import __version__, imports
from zoo.errors import TrainingError, UserError, nearest


@dataclass(frozen=True)
class Verb:
    """`module`: has `main(argv) -> int`, imported when the verb is used; it is given `verb` too where `named`."""

    module: str
    help: str
    named: bool = False


VERBS = {
    "tour": Verb("zoo.verbs.tour", "train every domain on its built-in data and write tour/index.html"),
    "fit": Verb("zoo.verbs.fit", "train a model: zoo fit --config configs/text/multi30k.yaml", named=True),
    "validate": Verb("zoo.verbs.fit", "validate a trained run: zoo validate RUN", named=True),
    "test": Verb("zoo.verbs.fit", "test a trained run: zoo test RUN", named=True),
    "predict": Verb("zoo.verbs.fit", "write a run's predictions for its test set: zoo predict RUN", named=True),
    "translate": Verb("zoo.verbs.translate", "translate TEXT or standard input: zoo translate RUN [TEXT...]"),
    "generate": Verb("zoo.verbs.generate", "go on with a text: zoo generate RUN --prompt TEXT"),
    "fill": Verb("zoo.verbs.fill", 'fill the gaps of a text: zoo fill MODEL "The capital of [MASK] ..."'),
    "classify": Verb("zoo.verbs.classify", "the classes of texts or files: zoo classify MODEL [INPUT...]"),
    "lens": Verb("zoo.verbs.lens", "draw where a model looks: zoo lens MODEL IMAGE"),
    "compose": Verb("zoo.verbs.compose", "write music as MIDI, sound and picture: zoo compose RUN"),
    "import": Verb(
        "zoo.verbs.weights", "published weights as a folder of zoo's: zoo import FOLDER|HUB-NAME OUT", named=True
    ),
    "export": Verb("zoo.verbs.weights", "an imported model as it was published: zoo export MODEL OUT", named=True),
    "score": Verb("zoo.verbs.score", "what mutations do: zoo score MODEL WILDTYPE.fasta VARIANTS.csv"),
    "contacts": Verb("zoo.verbs.contacts", "which residues touch: zoo contacts MODEL PROTEINS.fasta"),
    "annotate": Verb("zoo.verbs.annotate", "a label for every residue: zoo annotate MODEL PROTEINS.fasta"),
    "embed": Verb("zoo.verbs.embed", "vectors of proteins: zoo embed MODEL PROTEINS.fasta --out FILE.npz"),
    "diff": Verb("zoo.verbs.describe", "in which settings two models differ: zoo diff gpt2 esm2", named=True),
    "anatomy": Verb("zoo.verbs.describe", "draw what a model is made of: zoo anatomy MODEL", named=True),
    "data": Verb("zoo.verbs.data", "list, fetch and verify public data: zoo data list"),
    "bench": Verb("zoo.verbs.bench", "measure speed beside other libraries: zoo bench core"),
    "parity": Verb("zoo.verbs.parity", "compare published weights here with transformers and timm, as a table"),
    "matrix": Verb("zoo.verbs.matrix", "check the core for leaks and cache errors, as a table"),
}


def usage() -> str:
    width = max(map(len, VERBS))
    rows = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        "usage: zoo VERB [options]\n\n"
        "Text, vision, music and protein models on one Transformer core.\n\n"
        f"{rows}\n\n"
        "zoo VERB --help tells a verb's options; zoo --version the version.\n"
        "zoo --import MODULE VERB imports a module first: settings, tasks and data of your own."
    )


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output went away: nobody is left to tell, and what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: list[str]) -> int:
    modules, argv = imports.split(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        print(f"zoo {__version__}")
        return 0
    name, rest = argv[0], argv[1:]
    try:
        if name not in VERBS:
            raise UserError(f"unknown verb {name!r}{nearest(name, list(VERBS))}")
        verb = VERBS[name]
        for module in modules:
            imports.bring(module)
        run = importlib.import_module(verb.module).main
        code: int = run(name, rest) if verb.named else run(rest)
        return code
    except UserError as error:
        return _say(name, error, 2)
    except TrainingError as error:
        return _say(name, error, 1)
    except MemoryError as error:
        return _say(name, f"out of memory: {error}".rstrip(": "), 1)
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # of a file or a disk; others (a network's) are no fault of what was given
        given = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
        if not isinstance(error, given) and error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _say(name, f"{error.filename}: {error.strerror}" if error.filename else error, 2)


def _say(verb: str, error: object, code: int) -> int:
    print(f"zoo {verb}: {' '.join(str(error).split())}", file=sys.stderr)
    return code

"""Marian (Junczys-Dowmunt et al. 2018; OPUS-MT) as transformers stores it: MarianMTModel."""

from typing import Any

from zoo.core import NoNorm, Sinusoidal
from zoo.weights.bart import encoder_decoder, names
from zoo.weights.families import Family, Given


def settings(given: Given, architecture: str) -> dict[str, Any]:
    given.only(normalize_embedding=False)
    # sines have no table that would end; how translations are checked for length is told to the search
    given.silent("max_position_embeddings", "classifier_dropout", "classif_dropout")
    given.silent("extra_pos_embeddings", "force_bos_token_to_be_generated")  # of BART's first code, and read by nothing
    network = encoder_decoder(given, Sinusoidal("halves"), embed_norm=NoNorm(), vocabulary=58101, layers=12, width=1024)
    sources, shared = network["vocab_size"], given.flag("share_encoder_decoder_embeddings", True)
    targets = given.whole("decoder_vocab_size", sources)
    pad = given.whole("pad_token_id", 58100)
    return network | {
        "vocab_size": targets,
        "source_vocab_size": None if shared else sources,
        "share_embeddings": shared,
        "tied": given.flag("tie_word_embeddings", True),
        "pad": pad,
        "start": given.whole("decoder_start_token_id", 58100),
        **given.ends(0),
        "unwritten": (pad,),  # no training gave it a score: its row is zeros, which may well be the best
    }


FAMILY = Family(
    kinds={"MarianMTModel": "Seq2Seq"},
    settings=settings,
    names=names,
    unused=(r"model\.(encoder|decoder)\.embed_positions\.weight",),  # sines, which are worked out here
    sizes={"vocabulary": "vocab_size", "targets": "decoder_vocab_size"},
)

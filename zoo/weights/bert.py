"""BERT (Devlin et al. 2019) as transformers stores it: BertForMaskedLM, BertForSequenceClassification,
BertForPreTraining, of which the head that says whether one sentence follows another is kept and not used."""

from typing import Any

from zoo.core import First, LayerNorm, Learned, NoNorm, Plain, Pooler, StackConfig
from zoo.core.network import Network
from zoo.weights.families import ACTIVATIONS, Either, Family, Given, Table, joined


def settings(given: Given, architecture: str) -> dict[str, Any]:
    norm = LayerNorm(eps=given.number("layer_norm_eps", 1e-12))
    dim = given.whole("hidden_size", 768)
    activation = given.choice("hidden_act", ACTIVATIONS, "gelu")
    dropout = given.number("hidden_dropout_prob", 0.1)
    given.only(position_embedding_type="absolute")
    stack = StackConfig(
        dim=dim,
        depth=given.whole("num_hidden_layers", 12),
        heads=given.whole("num_attention_heads", 12),
        position=Learned(given.whole("max_position_embeddings", 512)),
        norm=norm,
        norm_order="post",
        embed_norm=norm,
        final_norm=NoNorm(),
        ffn=Plain(activation, given.whole("intermediate_size", 3072)),
        dropout=dropout,
        attention_dropout=given.number("attention_probs_dropout_prob", 0.1),
    )
    # padding is left out here, and no token ends what these models read; the rest describes the pooler of the first
    # version of these files, which is that of today
    given.silent("pad_token_id", "eos_token_id", "directionality", "pooler_fc_size")
    given.silent("pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")
    common = {
        "stack": stack,
        "vocab_size": given.whole("vocab_size", 30522),
        "types": given.whole("type_vocab_size", 2),
    }
    if architecture == "BertForSequenceClassification":
        given.silent("tie_word_embeddings")
        drop = given.number("classifier_dropout", dropout)
        return common | {"classes": given.classes(), "pool": Pooler(), "dropout": drop}
    given.silent("classifier_dropout")
    return common | {
        "pool": Pooler() if any(name.endswith("pooler.dense.weight") for name in given.stored) else First(),
        "activation": activation,
        "tied": given.flag("tie_word_embeddings", True),
    }


def names(network: Network) -> Table:
    layer, ours = "bert.encoder.layer.{}", "trunk.stack.blocks.{}"
    attention = f"{layer}.attention.self"
    table = {
        "trunk.embedding": "bert.embeddings.word_embeddings",
        "trunk.segments.embedding": "bert.embeddings.token_type_embeddings",
        "trunk.stack.position.table": "bert.embeddings.position_embeddings",
        "trunk.stack.embed_norm": "bert.embeddings.LayerNorm",
        f"{ours}.mixer.branch.to_qkv": joined(f"{attention}.query", f"{attention}.key", f"{attention}.value"),
        f"{ours}.mixer.branch.to_out": f"{layer}.attention.output.dense",
        f"{ours}.mixer.after": f"{layer}.attention.output.LayerNorm",
        f"{ours}.ffn.branch.up": f"{layer}.intermediate.dense",
        f"{ours}.ffn.branch.down": f"{layer}.output.dense",
        f"{ours}.ffn.after": f"{layer}.output.LayerNorm",
        "pool.dense": "bert.pooler.dense",
    }
    if "classes" in network.settings:
        return table | {"head": "classifier"}
    bias = Either("cls.predictions.bias", "cls.predictions.decoder.bias")
    return table | {
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "head.out.weight": "cls.predictions.decoder.weight",
        "head.out.bias": bias if network.settings["tied"] else "cls.predictions.decoder.bias",
    }


FAMILY = Family(
    kinds={
        "BertForMaskedLM": "MaskedLM",
        "BertForPreTraining": "MaskedLM",
        "BertForSequenceClassification": "TextClassifier",
    },
    settings=settings,
    names=names,
    prefix="bert.",
    # places counted out, the head that says whether one sentence follows another, and a bias that an untied head has
    # beside its own
    unused=(r"embeddings\.position_ids", r"cls\.seq_relationship\.(weight|bias)", r"cls\.predictions\.bias"),
    by_token=(r"cls\.predictions\.bias",),
    sizes={"vocabulary": "vocab_size", "positions": "max_position_embeddings"},
)

"""How much code and how many settings express the thirteen architectures of configs/arch: here and in three libraries.

    python experiments/design/count.py        writes results/count.json beside this file and prints the table

One rule for all: the architectures that a library has are built (on the meta device, no memory). Counted are the
classes of that library that the built modules are of and the settings classes that built them; in their source, and in
the functions of the same files that it calls, the branches (if, conditional expression, match case). Settings are what
a user can set on the way: fields of settings classes, or parameters of constructors where a library has no settings.
Heads, tokenizers, generation and loading are left out on all sides.
"""

import ast
import inspect
import sys
import textwrap
import time
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from zoo.provenance import keep

ARCH = Path(__file__).parents[2] / "configs" / "arch"
ALL = sorted(path.stem for path in ARCH.glob("*.yaml"))


def sources(classes: Iterable[type]) -> dict[str, ast.AST]:
    """The classes' own source and that of the functions of their files which it calls, by name."""
    found: dict[str, ast.AST] = {}
    for kind in classes:
        path = inspect.getsourcefile(kind)
        assert path is not None
        tree = ast.parse(Path(path).read_text())
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        todo: list[ast.AST] = [ast.parse(textwrap.dedent(inspect.getsource(kind)))]
        found[f"{path}:{kind.__name__}"] = todo[0]
        while todo:
            for node in ast.walk(todo.pop()):
                name = node.id if isinstance(node, ast.Name) else None
                if name in functions and f"{path}:{name}" not in found:
                    found[f"{path}:{name}"] = functions[name]
                    todo.append(functions[name])
    return found


def branches(trees: Iterable[ast.AST]) -> int:
    return sum(isinstance(n, ast.If | ast.IfExp | ast.match_case) for tree in trees for n in ast.walk(tree))


def statements(trees: Iterable[ast.AST]) -> int:
    return sum(isinstance(n, ast.stmt) and not _docstring(n) for tree in trees for n in ast.walk(tree))


def _docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def parameters(kind: type) -> list[str]:
    return [n for n in inspect.signature(kind.__init__).parameters if n not in ("self", "kwargs", "args")]


def own(modules: Iterable[nn.Module], package: str) -> set[type]:
    return {type(part) for module in modules for part in module.modules() if type(part).__module__.startswith(package)}


def zoo() -> dict[str, Any]:
    from zoo.core import Stack, StackConfig
    from zoo.core.setting import Setting

    configs = [
        StackConfig.from_plain(values)
        for name in ALL
        for values in yaml.safe_load((ARCH / f"{name}.yaml").read_text()).values()
    ]
    with torch.device("meta"):
        stacks = [Stack(config) for config in configs]
    settings: set[type] = set()

    def collect(value: Any) -> None:
        if is_dataclass(value):
            settings.add(type(value))
            for field in fields(value):
                collect(getattr(value, field.name))

    for config in configs:
        collect(config)
    modules = own(stacks, "zoo")
    trees = sources(modules | settings)
    from zoo.core import attend, layout

    trees |= sources([layout.Layout])  # what the stacks are called with, and the functions they call through
    trees |= {
        n.name: n
        for n in ast.parse(inspect.getsource(sys.modules["zoo.core.attend"])).body
        if isinstance(n, ast.FunctionDef)
    }
    assert callable(attend)
    assert issubclass(next(s for s in settings if s is not StackConfig and issubclass(s, Setting)), Setting)
    return {
        "architectures": ALL,
        "modules": len(modules),
        "settings classes": len(settings),
        "settings": sum(len(fields(kind)) for kind in settings),  # type: ignore[arg-type]
        "branches": branches(trees.values()),
        "statements": statements(trees.values()),
        "a new position scheme touches": "1 file: a settings class and a module with the hooks it needs",
    }


def transformers() -> dict[str, Any]:
    import transformers as hf

    shown = {
        "bart_base": (hf.BartModel, hf.BartConfig()),
        "bert_base": (hf.BertModel, hf.BertConfig()),
        "deit_s16": (hf.DeiTModel, hf.DeiTConfig()),
        "esm2_8m": (
            hf.EsmModel,
            hf.EsmConfig(vocab_size=33, position_embedding_type="rotary", emb_layer_norm_before=False),
        ),
        "gpt2_small": (hf.GPT2Model, hf.GPT2Config()),
        "llama_1b": (hf.LlamaModel, hf.LlamaConfig()),
        "marian": (hf.MarianModel, hf.MarianConfig()),
        "musicgen_small": (hf.MusicgenModel, hf.MusicgenDecoderConfig()),
        "t5_small": (hf.T5Model, hf.T5Config()),
        "t5_v1_1_small": (hf.T5Model, hf.T5Config(feed_forward_proj="gated-gelu")),
        "vit_s16": (hf.ViTModel, hf.ViTConfig()),
    }
    with torch.device("meta"):
        models = [kind(config) for kind, config in shown.values()]
    modules = own(models, "transformers")
    settings = {type(config) for _, config in shown.values()}
    generic = set(parameters(hf.PreTrainedConfig)) | {
        f.name for f in fields(hf.PreTrainedConfig) if is_dataclass(hf.PreTrainedConfig)
    }
    trees = sources(modules | settings)
    rotary = {Path(inspect.getsourcefile(m)).name for m in modules if "otary" in inspect.getsource(m)}  # type: ignore[arg-type]
    return {
        "architectures": sorted(shown),
        "modules": len(modules),
        "settings classes": len(settings),
        "settings": sum(len([n for n in parameters(kind) if n not in generic]) for kind in settings),
        "branches": branches(trees.values()),
        "statements": statements(trees.values()),
        "a new position scheme touches": "the file of every model that shall have it: "
        f"rotary stands in {len(rotary)} of these ({', '.join(sorted(rotary))})",
    }


def x_transformers() -> dict[str, Any]:
    import x_transformers as xt
    from x_transformers import x_transformers as x

    base = {"dim": 64, "depth": 1, "heads": 4, "attn_flash": True}
    # Not to be had: T5's unscaled scores, Music Transformer's relative keys. Sinusoids and offsets are added outside.
    shown = {
        "bart_base": [xt.Encoder(**base, pre_norm=False), xt.Decoder(**base, pre_norm=False, cross_attend=True)],
        "bert_base": [xt.Encoder(**base, pre_norm=False)],
        "deit_s16": [xt.Encoder(**base, layer_dropout=0.1)],
        "esm2_8m": [xt.Encoder(**base, rotary_pos_emb=True)],
        "gpt2_small": [xt.Decoder(**base)],
        "llama_1b": [
            xt.Decoder(
                **base,
                rotary_pos_emb=True,
                use_rmsnorm=True,
                attn_kv_heads=2,
                ff_glu=True,
                ff_swish=True,
                ff_no_bias=True,
            )
        ],
        "marian": [
            xt.Encoder(**base, pre_norm=False, ff_swish=True),
            xt.Decoder(**base, pre_norm=False, cross_attend=True, ff_swish=True),
        ],
        "musicgen_small": [xt.Decoder(**base, cross_attend=True, ff_no_bias=True)],
        "vaswani_base": [xt.Encoder(**base, pre_norm=False), xt.Decoder(**base, pre_norm=False, cross_attend=True)],
        "vit_s16": [xt.Encoder(**base)],
    }
    modules = own([part for parts in shown.values() for part in parts], "x_transformers")
    trees = sources(modules)
    return {
        "architectures": sorted(shown),
        "modules": len(modules),
        "settings classes": 0,
        "settings": sum(len(parameters(kind)) for kind in (x.AttentionLayers, x.Attention, x.FeedForward)),
        "branches": branches(trees.values()),
        "statements": statements(trees.values()),
        "a new position scheme touches": "1 file, at 3 places: parameters and branches of AttentionLayers, "
        "its forward, and Attention's",
    }


def torch_nn() -> dict[str, Any]:
    # Not to be had: rotary, relative and bucketed positions, RMS norms, gates, grouped heads, biases one by one.
    shown = ["bart_base", "bert_base", "deit_s16", "gpt2_small", "marian", "vaswani_base", "vit_s16"]
    kinds: list[type] = [
        nn.TransformerEncoder,
        nn.TransformerEncoderLayer,
        nn.TransformerDecoder,
        nn.TransformerDecoderLayer,
        nn.MultiheadAttention,
    ]
    trees = sources(kinds)
    trees["multi_head_attention_forward"] = ast.parse(
        textwrap.dedent(inspect.getsource(nn.functional.multi_head_attention_forward))
    )
    return {
        "architectures": shown,
        "modules": len(kinds),
        "settings classes": 0,
        "settings": sum(len(parameters(kind)) for kind in kinds),
        "branches": branches(trees.values()),
        "statements": statements(trees.values()),
        "a new position scheme touches": "cannot be said from outside, unless it is added to the embeddings",
    }


def table(counts: dict[str, dict[str, Any]]) -> str:
    rows = ["modules", "settings classes", "settings", "branches", "statements", "a new position scheme touches"]
    head = f"| | {' | '.join(counts)} |\n|---|{'---|' * len(counts)}\n"
    shown = "| architectures of 13 | " + " | ".join(str(len(c["architectures"])) for c in counts.values()) + " |\n"
    return head + shown + "".join(f"| {row} | {' | '.join(str(c[row]) for c in counts.values())} |\n" for row in rows)


if __name__ == "__main__":
    begin = time.time()
    counts = {
        "zoo": zoo(),
        f"transformers {version('transformers')}": transformers(),
        f"x-transformers {version('x-transformers')}": x_transformers(),
        f"torch.nn {version('torch')}": torch_nn(),
    }
    keep(__file__, "count", begin, {"counts": counts})
    print(table(counts), end="")

"""The protein models against ESM-2 as transformers has it, and by their own promises."""

from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.core import Learned, Rotary, StackConfig
from zoo.core.pool import First
from zoo.protein import ProteinLM, ResidueModel, SequenceModel
from zoo.protein.contacts import attention_maps, contact_probabilities
from zoo.protein.tokens import Residues

STACK = StackConfig(dim=24, depth=2, heads=3, position=Rotary())
CAUSAL = STACK.replace(causal=True)


def esm(dtype: torch.dtype = torch.float64) -> tuple[ProteinLM, Any]:
    """Our ProteinLM and transformers' EsmForMaskedLM with the same weights, all moved away from their first values."""
    transformers = pytest.importorskip("transformers")
    config = transformers.EsmConfig(
        vocab_size=33,
        mask_token_id=32,
        pad_token_id=1,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    theirs = transformers.EsmForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = ProteinLM(STACK).eval()
    source = theirs.state_dict()
    found: dict[str, Tensor] = {
        "trunk.embedding.weight": source["esm.embeddings.word_embeddings.weight"],
        "trunk.stack.final_norm.weight": source["esm.encoder.emb_layer_norm_after.weight"],
        "trunk.stack.final_norm.bias": source["esm.encoder.emb_layer_norm_after.bias"],
        "head.out.weight": source["esm.embeddings.word_embeddings.weight"],
        "head.out.bias": source["lm_head.bias"],
        "contacts.weight": source["esm.contact_head.regression.weight"],
        "contacts.bias": source["esm.contact_head.regression.bias"],
    }
    for name, other in {"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm"}.items():
        found |= {f"{name}.{kind}": source[f"{other}.{kind}"] for kind in ("weight", "bias")}
    for layer in range(2):
        here, there = f"trunk.stack.blocks.{layer}", f"esm.encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            heads = [source[f"{there}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            found[f"{here}.mixer.branch.to_qkv.{kind}"] = torch.cat(heads)
            pairs = {
                "mixer.branch.to_out": "attention.output.dense",
                "mixer.before": "attention.LayerNorm",
                "ffn.before": "LayerNorm",
                "ffn.branch.up": "intermediate.dense",
                "ffn.branch.down": "output.dense",
            }
            found |= {f"{here}.{a}.{kind}": source[f"{there}.{b}.{kind}"] for a, b in pairs.items()}
    ours.load_state_dict(found)
    return ours.to(dtype), theirs.to(dtype)


def proteins() -> tuple[Tensor, Tensor]:
    """Three framed sequences with masks in two of them, padded at the right."""
    torch.manual_seed(1)
    keep = torch.arange(14) < torch.tensor([[14], [9], [4]])
    ids = torch.randint(4, 30, keep.shape)
    ids[:, 0] = Residues.cls
    ids[0, [3, 7]] = ids[1, 2] = Residues.mask
    ids[torch.arange(3), keep.sum(1) - 1] = Residues.end
    return ids.masked_fill(~keep, Residues.pad), keep


def test_esm2_as_transformers_has_it() -> None:
    """In float64, to what the reference's own float32 rotary tables leave (1e-6)."""
    ours, theirs = esm()
    ids, keep = proteins()
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=keep.long()).logits
        torch.testing.assert_close(ours(ids, keep)[keep], expected[keep], rtol=0, atol=1e-6)
        dense = ids[:1]
        torch.testing.assert_close(ours(dense), theirs(input_ids=dense).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("broken", ["token dropout", "final norm", "head norm", "position"])
def test_one_knob_wrong_is_seen(broken: str) -> None:
    ours, theirs = esm()
    ids, keep = proteins()
    if broken == "token dropout":
        wrong = ProteinLM(STACK, token_dropout=False).double().eval()
    elif broken == "position":
        wrong = ProteinLM(STACK.replace(position=Rotary(theta=5000.0))).double().eval()
    else:
        wrong = ProteinLM(STACK).double().eval()
    wrong.load_state_dict(ours.state_dict())
    if broken == "final norm":
        wrong.trunk.stack.final_norm.eps = 1e-2
    if broken == "head norm":
        wrong.head.norm.eps = 1e-2
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=keep.long()).logits
        assert (wrong(ids, keep)[keep] - expected[keep]).abs().max() > 1e-5


def test_contacts_as_transformers_predicts_them() -> None:
    """Its batch of padded proteins against ours, one protein at a time, from the fused path."""
    ours, theirs = esm()
    ids, keep = proteins()
    with torch.no_grad():
        expected = theirs.predict_contacts(ids, keep.double())
    for row, length in enumerate(keep.sum(1).tolist()):
        found = contact_probabilities(ours, ids[row : row + 1, :length])
        torch.testing.assert_close(found[0], expected[row, : length - 2, : length - 2], rtol=0, atol=1e-6)


def test_a_sequence_of_masks_alone_gives_numbers() -> None:
    ids = torch.full((1, 5), Residues.mask)
    assert ProteinLM(STACK)(ids).isfinite().all()


def test_token_dropout_counts_a_sequence_alone() -> None:
    """What stands beside a sequence in the batch, and how far it is padded, changes nothing."""
    model = ProteinLM(STACK).double().eval()
    ids, keep = proteins()
    together = model(ids, keep)
    for row, length in enumerate(keep.sum(1).tolist()):
        torch.testing.assert_close(together[row, :length], model(ids[row : row + 1, :length])[0])


def test_a_causal_model_goes_on_from_its_cache() -> None:
    model = ProteinLM(CAUSAL, token_dropout=False).double().eval()
    prompt = torch.tensor([[Residues.cls, 4, 5]])
    written = model.generate(prompt, length=8)
    whole = torch.cat((prompt, written), 1)
    best = model(whole[:, :-1]).argmax(-1)[0, 2:]
    ended = (best == Residues.end).cumsum(0) > 0
    assert torch.equal(torch.where(ended, Residues.end, best), written[0])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a causal stack takes none"):
        ProteinLM(CAUSAL)
    with pytest.raises(ValueError, match="leave cross unset"):
        ProteinLM(STACK.replace(cross=True))
    with pytest.raises(ValueError, match="was not fitted"):
        contact_probabilities(ProteinLM(STACK), proteins()[0][:1])


@pytest.mark.parametrize(
    "model",
    [
        ProteinLM(STACK),
        ProteinLM(CAUSAL, token_dropout=False),
        ResidueModel(STACK, 3),
        SequenceModel(STACK),
        SequenceModel(STACK, 3, pool=First()),
    ],
    ids=["masked", "causal", "residues", "value", "classes"],
)
def test_every_parameter_learns_and_plain_values_make_it_again(model: Any) -> None:
    ids, keep = proteins()
    model(ids, keep).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    again = type(model).from_plain(model.to_plain())
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_maps_are_symmetric_and_corrected() -> None:
    model, ids = ProteinLM(STACK), torch.randint(4, 24, (2, 12))
    maps = attention_maps(model, ids)
    assert maps.shape == (2, 6, 10, 10)
    torch.testing.assert_close(maps, maps.mT)
    assert maps.sum(-1).abs().max() < 1e-5  # what a row gives alone is gone


def test_longer_than_its_table_is_said() -> None:
    with pytest.raises(ValueError, match="the position table has 6 rows"):
        ProteinLM(STACK.replace(position=Learned(6)))(torch.randint(4, 24, (1, 7)))

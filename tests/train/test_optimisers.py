import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.core import GRU, Gated, Layout, Learned, Skewed, Stack, StackConfig
from zoo.text import Seq2Seq
from zoo.train import optimisers
from zoo.train.optimisers import AdamW, Muon, MuonAdamW, decayed, orthogonalise, stack_matrices

CONFIG = StackConfig(dim=8, depth=1, heads=2, position=Learned(length=16))


def seq2seq(*, tied: bool = True) -> Seq2Seq:
    return Seq2Seq(CONFIG, CONFIG.replace(causal=True, cross=True), 20, tied=tied, head_bias=True)


def test_what_is_decayed_by_name() -> None:
    assert decayed(seq2seq()) == [
        "encoder.blocks.0.mixer.branch.to_out.weight",
        "encoder.blocks.0.mixer.branch.to_qkv.weight",
        "encoder.blocks.0.ffn.branch.up.weight",
        "encoder.blocks.0.ffn.branch.down.weight",
        "decoder.blocks.0.mixer.branch.to_out.weight",
        "decoder.blocks.0.mixer.branch.to_qkv.weight",
        "decoder.blocks.0.cross.branch.to_out.weight",
        "decoder.blocks.0.cross.branch.to_q.weight",
        "decoder.blocks.0.cross.branch.to_kv.weight",
        "decoder.blocks.0.ffn.branch.up.weight",
        "decoder.blocks.0.ffn.branch.down.weight",
    ]


def test_an_untied_head_is_decayed_and_a_tied_one_is_not() -> None:
    assert "head.weight" in decayed(seq2seq(tied=False))
    assert not any("head" in name or "embedding" in name for name in decayed(seq2seq()))


def test_positions_gains_and_free_parameters_are_not_decayed() -> None:
    stack = Stack(StackConfig(dim=8, depth=1, heads=2, position=Skewed(max_distance=4), layer_scale=0.1))
    stack.class_token = nn.Parameter(torch.zeros(1, 8))
    kept = {name for name, _ in stack.named_parameters()} - set(decayed(stack))
    assert {"position.table", "blocks.0.mixer.gain.weight", "class_token"} <= kept


def test_recurrent_matrices_are_decayed_and_their_biases_are_not() -> None:
    names = decayed(Stack(StackConfig(dim=8, depth=1, heads=1, mixer=GRU(), causal=True)))
    assert "blocks.0.mixer.branch.cells.weight_hh_l0" in names
    assert not any("bias" in name for name in names)


@pytest.mark.parametrize("setting", [AdamW(weight_decay=0.1), Muon(weight_decay=0.1)])
def test_only_decayed_parameters_shrink(setting: AdamW | Muon) -> None:
    model = seq2seq()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    setting.build(model).step()
    names = set(decayed(model))
    for name, p in model.named_parameters():
        expected = before[name] * (1 - setting.lr * setting.weight_decay) if name in names else before[name]
        torch.testing.assert_close(p.detach(), expected)


@pytest.mark.parametrize("setting", [AdamW(), Muon()])
def test_every_parameter_is_in_exactly_one_group(setting: AdamW | Muon) -> None:
    model = seq2seq()
    ours = [id(p) for group in setting.build(model).param_groups for p in group["params"]]
    assert sorted(ours) == sorted(id(p) for p in model.parameters())


def test_a_frozen_parameter_is_left_out() -> None:
    model = seq2seq()
    model.encoder.requires_grad_(False)
    ours = {id(p) for group in AdamW().build(model).param_groups for p in group["params"]}
    assert not ours & {id(p) for p in model.encoder.parameters()}


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("shape", [(3, 16, 40), (3, 40, 16)])
def test_orthogonalised_matrices_have_singular_values_near_one(
    shape: tuple[int, ...], halves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimisers, "multiplies_halves", lambda: halves)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)).float())
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_orthogonalised_in_halves_points_where_it_does_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.randn(4, 32, 96)
    turned = {}
    for halves in (False, True):
        monkeypatch.setattr(optimisers, "multiplies_halves", lambda halves=halves: halves)
        turned[halves] = orthogonalise(g).flatten(1)
    assert [turned[halves].dtype for halves in turned] == [torch.float32, torch.bfloat16]
    assert F.cosine_similarity(turned[False], turned[True].float()).min() > 0.999


def test_fused_projections_are_turned_map_by_map() -> None:
    config = StackConfig(dim=8, depth=1, heads=2, kv_heads=1, ffn=Gated("silu", dim=12), cross=True, causal=True)
    pieces = {name.removeprefix("blocks.0."): rows for name, _, rows in stack_matrices(Stack(config))}
    assert pieces == {
        "mixer.branch.to_out.weight": [8],
        "mixer.branch.to_qkv.weight": [8, 4, 4],
        "cross.branch.to_out.weight": [8],
        "cross.branch.to_q.weight": [8],
        "cross.branch.to_kv.weight": [4, 4],
        "ffn.branch.gate_up.weight": [12, 12],
        "ffn.branch.down.weight": [8],
    }


def test_gates_of_a_recurrent_mixer_are_turned_one_by_one() -> None:
    stack = Stack(StackConfig(dim=8, depth=1, heads=1, mixer=GRU(hidden=6), causal=True))
    pieces = {name: rows for name, _, rows in stack_matrices(stack)}
    assert pieces["blocks.0.mixer.branch.cells.weight_ih_l0"] == [6, 6, 6]


def test_embeddings_and_head_go_by_adamw() -> None:
    names = {name for name, _, _ in stack_matrices(seq2seq(tied=False))}
    assert not any("head" in name or "embedding" in name for name in names)
    assert len(names) == 11


def test_muon_of_a_split_matrix_equals_muon_of_its_parts() -> None:
    whole, grad = torch.randn(12, 5), torch.randn(12, 5)
    fused = nn.Parameter(whole.clone())
    parts = [nn.Parameter(part.clone()) for part in whole.split([8, 4])]
    fused.grad = grad.clone()
    for part, g in zip(parts, grad.split([8, 4]), strict=True):
        part.grad = g.clone()
    MuonAdamW([{"params": [fused], "pieces": [[8, 4]]}], lr=0.1).step()
    MuonAdamW([{"params": parts, "pieces": [[8], [4]]}], lr=0.1).step()
    torch.testing.assert_close(fused, torch.cat(parts))


def test_muon_against_torchs_own() -> None:
    ours, theirs = (nn.Parameter(torch.ones(6, 4)) for _ in range(2))
    mine = MuonAdamW([{"params": [ours], "pieces": [[6]], "weight_decay": 0.1}], lr=0.02)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        ours.grad = torch.randn(6, 4)
        theirs.grad = ours.grad.clone()
        mine.step(), reference.step()
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # theirs iterates in bf16
    assert (ours - 1).norm() > 0.05


@pytest.mark.parametrize("setting", [AdamW(lr=3e-3), Muon(lr=3e-3)])
def test_training_goes_on_from_a_saved_state_exactly(setting: AdamW | Muon) -> None:
    torch.manual_seed(0)
    model = Stack(CONFIG.replace(depth=2))
    x, layout = torch.randn(2 * 5, 8), Layout.dense(2, 5)

    def train(model: Stack, optimizer: torch.optim.Optimizer, steps: int) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (model(x, layout) - x.roll(1, 0)).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    optimizer = setting.build(model)
    first = train(model, optimizer, 3)
    twin = copy.deepcopy(model)
    other = setting.build(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    last = train(model, optimizer, 5)
    assert train(twin, other, 5) == last < first


def test_a_model_without_a_stack_is_refused_by_muon() -> None:
    with pytest.raises(ValueError, match="Muon found no matrix"):
        Muon().build(nn.Linear(3, 3))


RATES = [("lr", 0.0), ("lr", -1.0), ("lr", float("nan")), ("weight_decay", -0.1), ("eps", -1.0), ("beta1", 1.5)]


@pytest.mark.parametrize(("name", "value"), [*RATES, ("beta2", -0.1)])
def test_senseless_rates_are_refused(name: str, value: float) -> None:
    for kind in (AdamW, Muon):
        with pytest.raises(ValueError, match=name):
            kind(**{name: value})
    with pytest.raises(ValueError, match="momentum"):
        Muon(momentum=5.0)

"""Settings: plain values and back, and what is refused when a stack is built, with the reason."""

import json
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tests.core.architectures import ALL, FULL_SIZE
from zoo.core import (
    LSTM,
    ALiBi,
    Attention,
    EvenStretch,
    FixedScale,
    Gated,
    HeadScale,
    LayerNorm,
    Learned,
    LongStretch,
    NoNorm,
    NoPosition,
    Peaks,
    Plain,
    RelativeBuckets,
    RMSNorm,
    Rotary,
    Sinusoidal,
    Skewed,
    Stack,
    StackConfig,
    Standardised,
)
from zoo.core.feedforward import FeedForward
from zoo.core.mixer import Mixer, Scale
from zoo.core.network import Network, arguments
from zoo.core.norm import Norm
from zoo.core.position import Position
from zoo.core.recurrent import Recurrent
from zoo.core.setting import Setting, to_plain
from zoo.errors import UserError

BASE = StackConfig(dim=24, depth=2, heads=4)


@pytest.mark.parametrize("name", list(ALL) + [f"full {n}" for n in FULL_SIZE])
def test_plain_values_and_back(name: str) -> None:
    config = FULL_SIZE[name[5:]] if name.startswith("full ") else ALL[name]
    plain = json.loads(json.dumps(config.to_plain()))
    assert StackConfig.from_plain(plain) == config
    assert hash(StackConfig.from_plain(plain)) == hash(config)


def test_lists_become_what_a_file_would_give() -> None:
    config = BASE.replace(position=Peaks([-1, 0, 0, 1], [1.0] * 4))
    assert StackConfig.from_plain(config.to_plain()) == config
    assert hash(StackConfig.from_plain(config.to_plain())) == hash(config)


def test_a_name_alone_means_its_defaults() -> None:
    values = {"dim": 24, "depth": 2, "heads": 4, "position": "Rotary", "norm": {"class_path": "RMSNorm"}}
    assert StackConfig.from_plain(values) == BASE.replace(position=Rotary(), norm=RMSNorm())


@pytest.mark.parametrize("family", [Position, Norm, FeedForward, Mixer, Scale])
def test_every_choice_serves_an_architecture_or_is_a_recurrent_mixer(family: type[Setting]) -> None:
    """A choice that nothing uses would be tested by nothing."""

    def used(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["class_path"]} if "class_path" in value else set()
            return own.union(*map(used, value.values()))
        return set()

    everywhere = set().union(*(used(config.to_plain()) for config in ALL.values()))
    concrete = {name for name, kind in family.choices.items() if not kind.__subclasses__()}
    assert concrete <= everywhere, concrete - everywhere


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 5}, r"heads \(5\) must divide dim \(24\); or set head_dim"),
        ({"heads": 4, "kv_heads": 3}, r"kv_heads \(3\) must divide heads \(4\)"),
        ({"depth": 0}, r"depth \(0\) must be at least 1"),
        ({"dropout": 1.0}, r"dropout \(1.0\) must be in \[0, 1\)"),
        ({"drop_path": -0.1}, r"drop_path \(-0.1\) must be in \[0, 1\)"),
        ({"norm_order": "sandwich"}, "norm_order: unknown 'sandwich'; allowed: post, pre"),
        ({"position": "Rotory"}, "position: unknown Position 'Rotory'; did you mean 'Rotary'"),
        ({"position": {"class_path": "Rotary", "init_args": {"teta": 1.0}}}, "'teta'; did you mean 'theta'"),
        ({"norm": {"class_path": "RMSNorm", "init_args": {"eps": "small"}}}, "eps: expected float, got 'small'"),
        ({"position": {"class_path": "os.system", "init_args": {}}}, "unknown Position 'os.system'"),
        ({"position": {"class_path": "Periodic", "init_args": {"period": 1}}}, r"period \(1\) must be at least 2"),
        ({"norm": 3}, "norm: expected one of LayerNorm, NoNorm, RMSNorm, got 3"),
        ({"hedas": 4}, "unknown setting 'hedas'; did you mean 'heads'"),
        ({"causal": 1}, "causal: expected bool, got 1"),
        ({"dim": 24.0}, "dim: expected int, got 24.0"),
        ({"dim": True}, "dim: expected int, got True"),
        (
            {"position": {"class_path": "Peaks", "init_args": {"distances": 1, "slopes": [1.0]}}},
            "expected a list, got 1",
        ),
        (
            {"position": {"class_path": "Peaks", "init_args": {"distances": [1, "a"], "slopes": [1.0]}}},
            r"position.distances\[1\]: expected int, got 'a'",
        ),
    ],
)
def test_wrong_values_are_named(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StackConfig.from_plain({"dim": 24, "depth": 2, "heads": 4} | values)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ValueError, match="'heads' is missing"):
        StackConfig.from_plain({"dim": 24, "depth": 2})


def test_reading_imports_nothing() -> None:
    before = set(sys.modules)
    with pytest.raises(ValueError, match="unknown Mixer"):
        StackConfig.from_plain({"dim": 24, "depth": 2, "heads": 4, "mixer": "antigravity.Mixer"})
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixer": LSTM(), "position": Rotary()}, "LSTM has no queries and keys: position Rotary cannot act"),
        ({"mixer": LSTM(), "position": ALiBi()}, "position ALiBi cannot act"),
        ({"mixer": LSTM(), "position": RelativeBuckets()}, "position RelativeBuckets cannot act"),
        ({"mixer": LSTM(), "position": Skewed(4)}, "position Skewed cannot act"),
        ({"mixer": Mixer(), "position": Rotary()}, "Mixer has no queries and keys: position Rotary cannot act"),
        ({"mixer": LSTM(hidden=7)}, r"reads both ways: hidden \(7\) must be even"),
        ({"dim": 27, "heads": 9, "position": Sinusoidal()}, r"pairs channels: dim \(27\) must be even"),
        ({"head_dim": 5, "position": Rotary()}, "even"),
        ({"position": Peaks((-1, 0, 1), (1.0,) * 4)}, "4 heads need as many distances, not 3"),
        ({"position": Peaks((-1, 0, 0, 1), (1.0,))}, "4 heads need as many slopes, not 1"),
        ({"position": Peaks((-1, 0, 0, 1), (1.0, 1.0, 1.0, -1.0))}, "must be at least 0"),
        ({"position": Peaks((-1, 0, 0, 1), (1.0, 1.0, 1.0, float("nan")))}, "must be at least 0"),
        ({"causal": True, "position": Peaks((-1, 0, 0, 1), (1.0,) * 4)}, "a causal stack sees no key at distance 1"),
        ({"position": RelativeBuckets(3)}, r"buckets \(3\) must be at least 4, for past and future"),
        ({"position": RelativeBuckets(32, 8)}, r"max_distance \(8\) must be above the 8"),
        ({"causal": True, "position": RelativeBuckets(32, 16)}, r"max_distance \(16\) must be above the 16"),
    ],
)
def test_what_cannot_work_is_refused_when_built(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BASE.replace(**changes)


def test_buckets_of_distances_grow_to_the_last() -> None:
    for causal, last in ((True, 7), (False, 3)):
        table = BASE.replace(causal=causal, position=RelativeBuckets(8, last)).position.build(
            BASE.replace(causal=causal)
        )
        rows = table.bucket(-torch.arange(40)).tolist()
        assert rows == sorted(rows)
        assert rows[-1] == last


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Learned(0), r"length \(0\)"),
        (lambda: Learned(4, offset=-2), r"offset \(-2\)"),
        (lambda: Rotary(theta=0.0), r"theta \(0.0\) must be above 0"),
        (lambda: Sinusoidal(theta=float("inf")), r"theta \(inf\)"),
        (lambda: Sinusoidal(order="halfs"), "order: unknown 'halfs'; did you mean 'halves'"),
        (lambda: EvenStretch(float("nan")), r"factor \(nan\) must be above 0"),
        (lambda: LongStretch(8.0, 1.0, float("nan"), 64), r"high \(nan\)"),
        (lambda: Rotary(stretch="EvenStretch"), r"stretch: expected an object as EvenStretch\(\.\.\.\), got 'Even"),
        (lambda: Rotary(stretch=EvenStretch), r"stretch: expected an object as EvenStretch\(\.\.\.\), got <class"),
        (lambda: Skewed(4, absolute="Sinusoidal"), r"absolute: expected an object as Sinusoidal\("),
        (lambda: Standardised(pool="Mean"), r"pool: expected an object as Mean\("),
        (lambda: LayerNorm(eps=-1.0), r"eps \(-1.0\) must be at least 0"),
        (lambda: RMSNorm(eps=float("nan")), r"eps \(nan\)"),
        (lambda: Plain(dim=-4), r"dim \(-4\) must be at least 1: it is the hidden width"),
        (lambda: Plain("swish"), "activation: unknown 'swish'"),
        (lambda: Gated("silu", 0), r"dim \(0\)"),
        (lambda: LSTM(hidden=0), r"hidden \(0\)"),
        (Recurrent, "Recurrent is what LSTM, GRU and RNN have in common"),
        (lambda: Mixer.from_plain("Recurrent"), "unknown Mixer 'Recurrent'"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_as_it_is_made(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": "Rotary"}, r"position: expected an object as Rotary\(.*, got 'Rotary'; from_plain reads names"),
        ({"position": Rotary}, r"position: expected an object as Rotary\(\.\.\.\), got <class"),
        ({"mixer": "LSTM"}, r"mixer: expected an object as LSTM\("),
        ({"norm": "rmsnorm"}, r"norm: expected an object as LayerNorm\("),
        ({"norm": {"class_path": "RMSNorm"}}, r"norm: expected an object as LayerNorm\("),
        ({"scale": 0.5}, r"scale: expected an object as FixedScale\(\.\.\.\), got 0.5"),
        ({"bias": False}, r"bias: expected an object as Bias\(\.\.\.\), got False"),
    ],
)
def test_what_is_no_object_of_the_settings_is_refused_with_one_that_is(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BASE.replace(**changes)


def test_a_name_that_is_taken_is_refused() -> None:
    """A run that says Rotary would be read with whatever class was written last."""
    with pytest.raises(ValueError, match=r"Rotary is a choice of zoo\.core\.rotary already"):
        type("Rotary", (Position,), {})
    assert Position.choices["Rotary"] is Rotary


@pytest.mark.parametrize("offset", [0, 2])
def test_a_length_beyond_the_table_is_refused(offset: int) -> None:
    """The rows before position 0 make no place for one more."""
    from zoo.core import Layout

    stack = Stack(BASE.replace(position=Learned(8, offset)))
    stack(torch.randn(8, 24), Layout.dense(1, 8))
    with pytest.raises(UserError, match="a sequence reaches position 8, the position table has 8 rows"):
        stack(torch.randn(9, 24), Layout.dense(1, 9))


SINGLE = {
    "kv_heads": 2,
    "head_dim": 8,
    "mixer": LSTM(),
    "causal": True,
    "cross": True,
    "position": Rotary(),
    "norm": RMSNorm(),
    "norm_order": "post",
    "embed_norm": LayerNorm(),
    "final_norm": NoNorm(),
    "qk_norm": RMSNorm(),
    "scale": FixedScale(),
    "ffn": Gated("silu", dim=40),
    "layer_scale": 0.1,
}


@pytest.mark.parametrize("name", SINGLE)
def test_every_setting_reaches_the_numbers(name: str) -> None:
    """One setting changed: what comes out changes too. A setting that nothing reads would pass all other tests."""
    from tests.core.architectures import build, context
    from zoo.core import Layout

    outs = []
    for config in (BASE, BASE.replace(**{name: SINGLE[name]})):
        stack = build(config, torch.float64)
        torch.manual_seed(1)
        x = torch.randn(5, 24, dtype=torch.float64)
        outs.append(stack(x, Layout.dense(1, 5), **context(config, 1, torch.float64)))
    assert (outs[0] - outs[1]).abs().max() > 1e-4


def test_defaults_are_plain() -> None:
    assert BASE.mixer == Attention()
    assert BASE.position == NoPosition()
    assert BASE.scale == HeadScale()
    assert BASE.norm == LayerNorm()
    assert BASE.ffn == Plain()


def test_lists_values_by_name_and_either_kind_come_back() -> None:
    @dataclass(frozen=True)
    class Several(Position):
        widths: list[int]
        rates: dict[str, float]
        size: int | str = 3
        other: tuple[int | None, ...] = ()

    try:
        value = Several([48, 24], {"a": 1.0}, "large", (1, None))
        plain = json.loads(json.dumps(to_plain(value)))
        assert Position.from_plain(plain) == value
        for name, wrong, message in (
            ("widths", 3, "expected a list, got 3"),
            ("rates", {"a": "b"}, r"rates.a: expected float, got 'b'"),
            ("size", 1.5, r"size: expected int, got 1.5; or position.size: expected str"),
        ):
            with pytest.raises(ValueError, match=message):
                Position.from_plain({**plain, "init_args": plain["init_args"] | {name: wrong}})
    finally:
        del Position.choices["Several"]


class Described(Network):
    def __init__(self, width: int, *, norm: Norm | None = None):
        super().__init__()
        self.settings = arguments(locals())
        doubled = 2 * width
        self.map = nn.Linear(width, doubled)


class Wider(Described):
    def __init__(self, times: int, width: int = 3):
        super().__init__(times * width)
        self.settings = arguments(locals())


@pytest.mark.parametrize(
    ("network", "values"),
    [
        (Described(4, norm=RMSNorm()), {"width": 4, "norm": {"class_path": "RMSNorm", "init_args": {"eps": 1e-6}}}),
        (Described(4), {"width": 4, "norm": None}),
        (Wider(2), {"times": 2, "width": 3}),
    ],
)
def test_a_network_is_described_by_all_that_its_constructor_was_given(network: Network, values: dict) -> None:
    assert network.to_plain() == values
    again = type(network).from_plain(values)
    assert again.settings == network.settings
    assert again.map.weight.shape == network.map.weight.shape

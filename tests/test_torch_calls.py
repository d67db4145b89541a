"""PyTorch modules: free dims, names, control flow, attention masks, narrow products, experts, custom operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch_networks import NETWORKS, lowered, meta, of_kind, totals

import wattir
from wattir.costs import tabulate
from wattir.dims import evaluate, symbol
from wattir.errors import InputError, SizeError, UnsupportedError
from wattir.frontends.torch import Inputs

torch = pytest.importorskip("torch")
nn = torch.nn
Module = nn.Module


# ---- free dims, names -----------------------------------------------------------------------------------------------


class Small(Module):  # type: ignore[misc, valid-type]
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Any) -> Any:
        return self.norm(x + self.down(torch.relu(self.up(x))))


def test_free_dims_become_names() -> None:
    graph = lowered(Small(), Inputs((torch.zeros(1, 5, 8),), dims={"x": ("batch", "seq", None)}))

    assert dict(graph.sizes) == {"batch": 1, "seq": 5}
    assert graph.batch == "batch"
    assert totals(graph)["flop"] == 1024 * symbol("batch") * symbol("seq")


def test_a_free_dim_gives_the_totals_of_a_fixed_one() -> None:
    module, inputs = NETWORKS["resnet50"]()
    free = totals(lowered(module, Inputs((inputs,), dims={0: {0: "batch"}})))
    fixed = totals(lowered(module, meta(4, 3, 224, 224)))

    assert {name: evaluate(size, {"batch": 4}) for name, size in free.items()} == fixed


def test_layers_are_called_by_their_modules() -> None:
    graph = lowered(nn.Sequential(Small(), Small()), torch.zeros(2, 8))

    assert {"0.up", "0.down", "0.norm", "0/relu", "0/add", "1.up"} <= {op.name for op in graph.ops}


# ---- control flow, data ---------------------------------------------------------------------------------------------


class Branches(Module):  # type: ignore[misc, valid-type]
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(8, 8), nn.Linear(8, 64)

    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda x: self.small(x), lambda x: self.large(x)[:, :8].clone(), (x,))


def test_a_module_of_which_some_parameters_are_not_on_meta() -> None:
    """Old constructors make theirs on the CPU, whatever the device in force; the module stays as it was."""

    class Shifted(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(8, 8)
            self.shift = torch.nn.Parameter(torch.FloatTensor(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.shift

    with torch.device("meta"):
        module = Shifted()
    assert module.shift.device.type == "cpu" and module.weight.is_meta

    graph = lowered(module, meta(4, 8))
    assert not graph.warnings and graph.params == 8 * 8 + 8 + 8
    assert module.shift.device.type == "cpu"


def test_the_dearest_branch_counts() -> None:
    graph = lowered(Branches(), torch.zeros(4, 8))

    assert totals(graph)["flop"] == 2 * 4 * 8 * 64
    assert any("dearest" in line for line in graph.warnings)


class Routed(Module):  # type: ignore[misc, valid-type]
    """Experts as written out in plain torch: each takes the tokens that the router gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(8, 4), nn.ModuleList(nn.Linear(8, 16) for _ in range(4))

    def forward(self, x: Any) -> Any:
        chosen = self.router(x).argmax(-1)
        counts = torch.nn.functional.one_hot(chosen, 4).sum(0).tolist()
        parts = x[chosen.argsort()].split(counts)
        return torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])


def test_parts_of_a_length_that_data_decides_are_equal_shares(tmp_path: Path) -> None:
    given = Inputs((torch.zeros(32, 8),), {}, {0: {0: "tokens"}})
    graph = lowered(Routed(), given)

    flop = 2 * 32 * 8 * 4 + 2 * 32 * 8 * 16  # the router, and every token through one expert
    assert (evaluate(totals(graph)["flop"], {"tokens": 32}), list(graph.sizes)) == (flop, ["tokens"])
    assert graph.warnings == ("how long the parts of split_with_sizes are depends on data; taken as equal",)
    torch.export.save(torch.export.export(Routed(), given.args, strict=False), tmp_path / "routed.pt2")
    assert totals(lowered(str(tmp_path / "routed.pt2"), None))["flop"] == flop


class Scan(Module):  # type: ignore[misc, valid-type]
    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        from torch._higher_order_ops.scan import scan

        return scan(lambda carry, row: (self.step(carry) + row, carry * 2), x[0], x)


def test_a_scan_runs_as_often_as_it_has_rows() -> None:
    assert totals(lowered(Scan(), torch.zeros(16, 4, 8)))["flop"] == 16 * 2 * 4 * 8 * 8


class While(Scan):
    def forward(self, x: Any) -> Any:
        from torch._higher_order_ops import while_loop

        start = torch.zeros((), dtype=torch.int64)
        return while_loop(lambda i, x: i < 10, lambda i, x: (i + 1, self.step(x)), (start, x))


def test_a_while_loop_needs_its_trip_count() -> None:
    with pytest.raises(SizeError, match="trip_counts"):
        wattir.lower(While(), torch.zeros(4, 8))

    graph = lowered(While(), Inputs((torch.zeros(4, 8),), trip_counts={"while_loop": 10}))
    assert totals(graph)["flop"] == 10 * 2 * 4 * 8 * 8


class Asks(Scan):
    def forward(self, x: Any) -> Any:
        return self.step(x) if bool(x.sum() > 0) else x


def test_what_cannot_be_exported_is_traced_and_says_so() -> None:
    graph = lowered(Asks(), torch.zeros(4, 8))

    assert totals(graph)["flop"] == 2 * 4 * 8 * 8
    assert "torch.export failed" in graph.warnings[0]
    assert any("taken as 1" in line for line in graph.warnings)


# ---- attention, narrow products, experts ----------------------------------------------------------------------------


class Masked(Module):  # type: ignore[misc, valid-type]
    """A mask of positions with a window of 16, keys of 2 heads for queries of 4."""

    def forward(self, q: Any, k: Any, v: Any) -> Any:
        row, column = torch.arange(64)[:, None], torch.arange(64)[None]
        mask = (column <= row) & (column > row - 16)
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def test_a_mask_of_positions_is_causal_and_has_a_window() -> None:
    (op,) = of_kind(lowered(Masked(), (meta(1, 4, 64, 8), meta(1, 2, 64, 8), meta(1, 2, 64, 8))), "attention")

    assert (op.attrs["heads"], op.attrs["kv_heads"], op.attrs["causal"], op.attrs["window"]) == (4, 2, True, 16)


class Flexible(Module):  # type: ignore[misc, valid-type]
    def forward(self, q: Any, k: Any, v: Any) -> Any:
        from torch.nn.attention.flex_attention import flex_attention

        causal = lambda score, b, h, q, k: torch.where(q >= k, score, -float("inf"))  # noqa: E731  (as users write it)
        return flex_attention(q, k, v, score_mod=causal)


def test_flex_attention() -> None:
    (op,) = of_kind(lowered(Flexible(), tuple(torch.zeros(1, 2, 128, 64) for _ in range(3))), "attention")

    assert (op.attrs["q"], op.attrs["kv"], op.attrs["causal"]) == (128, 128, True)


class Narrow(Module):  # type: ignore[misc, valid-type]
    def forward(self, x: Any, weight: Any, scale: Any) -> Any:
        half = torch.ops.aten._weight_int8pack_mm(x, weight, scale)
        return half, torch._int_mm(x.to(torch.int8), weight.t())


def test_narrow_products_have_their_math_and_bytes() -> None:
    given = (meta(32, 64).bfloat16(), meta(128, 64).to(torch.int8), meta(128).bfloat16())
    work = [w for w in tabulate(lowered(Narrow(), given)) if w.kind == "matmul"]

    assert [(w.math, w.macs) for w in work] == [("bf16", 32 * 64 * 128), ("int8", 32 * 64 * 128)]
    assert work[0].in_bytes == 32 * 64 * 2 + 128 * 64 + 128 * 2


class Experts(Module):  # type: ignore[misc, valid-type]
    def forward(self, x: Any, weights: Any, ends: Any) -> Any:
        return torch._grouped_mm(x, weights, offs=ends)


@pytest.mark.parametrize(("rows", "read"), [(64, 8), (2, 2)])
def test_only_active_experts_are_computed_and_read(rows: int, read: int) -> None:
    given = (meta(rows, 16).bfloat16(), meta(8, 16, 32).bfloat16(), torch.zeros(8, dtype=torch.int32, device="meta"))
    (work,) = [w for w in tabulate(lowered(Experts(), given)) if w.kind == "matmul"]

    assert work.macs == rows * 16 * 32
    assert work.in_bytes == rows * 16 * 2 + read * 16 * 32 * 2 + 8 * 4


# ---- custom operators, errors ---------------------------------------------------------------------------------------


def test_custom_operators_are_unknown_until_registered() -> None:
    from wattir.frontends.torch import register

    library = torch.library.Library("wattir_test", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    torch.library.register_fake("wattir_test::twice", lambda x: torch.empty_like(x), lib=library)

    class Custom(Module):  # type: ignore[misc, valid-type]
        def forward(self, x: Any) -> Any:
            return torch.ops.wattir_test.twice(x)

    before = lowered(Custom(), torch.zeros(4))
    register("wattir_test.twice", lambda node: node.pointwise("twice", 1))
    after = lowered(Custom(), torch.zeros(4))

    assert [op.kind for op in before.ops] == ["unknown"] and "wattir_test.twice has no mapping" in before.warnings[0]
    assert [op.kind for op in after.ops] == ["pointwise"]
    with pytest.raises(ValueError, match="two rules for wattir_test"):
        register("wattir_test.twice", lambda node: None)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(InputError, match="without inputs"):
        wattir.lower(Small())
    with pytest.raises(InputError, match="did you mean x"):
        wattir.lower(Small(), Inputs((torch.zeros(2, 8),), dims={"xx": {0: "batch"}}))
    with pytest.raises(UnsupportedError, match=r"neither exported .* nor traced"):
        wattir.lower(Small(), torch.zeros(2, 9))


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(Small(), nn.Dropout())
    module[0].eval()
    graph = lowered(module, torch.zeros(2, 8))

    assert [child.training for child in (module, module[0], module[1])] == [True, False, True]
    assert not of_kind(graph, "random")
    assert all(parameter.device.type == "cpu" for parameter in module.parameters())

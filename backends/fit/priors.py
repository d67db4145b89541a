"""Where a fit starts and what holds it: physics priors from a device's own limits, or a relative's coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wattir.device import Coefficients, Device, device_from_text

from .solve import SCALARS, VOLTAGE, Prior

PIPELINED = ("matmul", "experts")
"""Families of which whole series of sizes along the inner dimension were measured."""
BY_ROWS = ("norm", "reduction", "gather")
"""Families whose rows are blocks of threads, which take a while to begin and to end however short the row is."""
VECTOR_FILL_K = 40.0
"""Of products on the vector units: their tiles are fetched 8 steps at a time where those of matrix units take 64. As
fitted: 51 on a100_pcie_40gb. With 150 its networks at 11 clocks, left out by model, are off by 6.6 % instead of 5.9."""

NOT_FITTED = """
[coefficients]
static_w = 1
busy_w = 0
j_per_op = 1e-12
j_per_byte = 1e-12
j_per_cache_byte = 1e-12
cache_bytes_per_s = 1e12
host_op_s = 0
tiles = [1, 1, 1, 1, 1]
j_per_flop = { fp32 = 1e-12 }
[coefficients.families.matmul]
compute_efficiency = 1
memory_efficiency = 1
fixed_s = 0
sharpness = 1
[interval]
layer = 1
network = 1
source = "not fitted yet"
[[fit]]
data_set = "none"
rows = 0
date = "none"
command = "none"
grouped_by = "none"
families = []
"""


def limits_of(text: str, where: str) -> Device:
    """The device of a file's limits alone, with coefficients that mean nothing yet."""
    from .write import without_fit

    return device_from_text(without_fit(text) + NOT_FITTED, where)


def priors_of(
    device: Device, maths: Sequence[str], families: Sequence[str], given: Mapping[str, Prior]
) -> dict[str, Prior]:
    """Priors of all parameters: powers as shares of the limit at full rate, efficiencies as of well-made kernels.

    A device that computes flat out and one that reads flat out both come near the power limit: hence the energies.
    """
    power, bandwidth = device.power_w, device.memory_bytes_per_s
    most_of_limit = 1.0 if device.kind == "gpu" else 100.0  # a GPU's limit would bind while it only reads
    least_byte = 0.08 if device.kind == "gpu" else 1e-4  # 12 pJ on H200: below any DRAM's own
    priors = {
        "static_w": Prior(0.2 * power, 0.3, 0.02 * power, 0.8 * power),
        "busy_w": Prior(0.15 * power, 0.5, 1e-3 * power, 0.7 * power),
        "j_per_op": Prior(0.6 * power / device.flop_per_s["fp32"], 0.4, 1e-15, 3.0 * power / device.flop_per_s["fp32"]),
        "j_per_byte": Prior(
            0.3 * power / bandwidth, 0.4, least_byte * power / bandwidth, most_of_limit * power / bandwidth
        ),
        "j_per_cache_byte": Prior(0.15 * power / bandwidth, 0.3, 1e-15, 0.5 * power / bandwidth),
        "cache_bytes_per_s": Prior(2.5 * bandwidth, 0.5, 1e8, 1e15),
        "host_op_s": Prior(0.0, 0.0, 0.0, 1.0),
    }
    share, spread = (0.7, 0.5) if device.kind == "gpu" else (0.2, 1.5)  # cores run much code that is not vectorised
    for math in maths:
        flat_out = power / device.flop_per_s[math]  # what would draw the limit at its peak rate
        priors[f"j_per_flop {math}"] = Prior(0.6 * flat_out, 0.4, 1e-3 * flat_out, 4.0 * flat_out)
    for family in families:
        most = 4.0 if family.startswith("conv3x3") else 1.0  # Winograd: 144 as 36 (4 x 4 results)
        priors[f"{family} compute_efficiency"] = Prior(share, spread, 1e-5, most)
        priors[f"{family} memory_efficiency"] = Prior(0.8, 0.4, 1e-3, 1.0)
        priors[f"{family} fixed_s"] = Prior(3e-6, 0.7, 1e-8, 1.0)
        priors[f"{family} sharpness"] = Prior(3.0, 0.4, 1.0, 32.0)
        if family.partition(".")[0] in PIPELINED and device.kind == "gpu":
            fill_k = VECTOR_FILL_K if family.endswith(".fp32") else 150.0
            priors[f"{family} fill_k"] = Prior(fill_k, 0.5, 1.0, 5e3)
            priors[f"{family} step_s"] = Prior(3e-10, 0.7, 1e-12, 1e-7)
        if family.partition(".")[0] == "matmul" and device.kind == "gpu":  # products of experts are not split
            priors[f"{family} split_s"] = Prior(3e-6, 0.7, 1e-7, 1e-3)
        if family.partition(".")[0] in ("experts", "mla"):
            priors[f"{family} cache_rate"] = Prior(1.0, 0.5, 0.05, 20.0)
        if family.partition(".")[0] in ("attention", "decode"):
            priors[f"{family} wave_s"] = Prior(2e-6, 0.7, 1e-9, 1e-3)
        if family == "conv1d":  # a block for each channel of each sequence, not for each 64 of them
            priors["conv1d wave_s"] = Prior(1e-7, 0.7, 1e-10, 1e-5)
        if family in BY_ROWS and device.kind == "gpu":
            priors[f"{family} wave_s"] = Prior(2e-8, 1.0, 1e-10, 1e-5)
    priors["small_rate"] = Prior(0.7, 0.3, 0.1, 1.0)
    if "matmul" in families and "matmul ragged_rate" in given:
        priors["matmul ragged_rate"] = given["matmul ragged_rate"]
    unknown = sorted(set(given) - set(priors) - set(VOLTAGE))
    if unknown:
        raise KeyError(f"priors of no parameter of {device.id}: {unknown}")
    return priors | dict(given)


def priors_from(lender: Coefficients, spread: float) -> dict[str, Prior]:
    """Powers and energies of a relative (already in proportion to this device's limits), this sure of them."""
    found = {name: getattr(lender, name) for name in SCALARS if name not in ("host_op_s", "cache_bytes_per_s")}
    found |= {f"j_per_flop {math}": value for math, value in lender.j_per_flop.items()}
    priors = {name: Prior(value, spread, value * 1e-2, value * 1e2) for name, value in found.items()}
    return priors | {name: Prior(getattr(lender, name), 0.0, 0.0, 1.0) for name in VOLTAGE}

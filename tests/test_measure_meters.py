"""Meters: what a window of counter readings says, and every counter on a machine that is made up of files and fakes."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("numpy")

from wattir.backends.measure import rapl
from wattir.backends.measure.meter import Mark, Meter, Sample
from wattir.backends.measure.meters import open_counter
from wattir.backends.measure.nvml import NvmlCounter
from wattir.backends.measure.rapl import RaplCounter
from wattir.backends.measure.zeus import ZeusCounter
from wattir.errors import InputError


def test_power_is_the_slope_between_edges_not_between_readings():
    meter = Meter(SimpleNamespace(), edges=[Mark(t, 50.0 * t) for t in (0.9, 1.0, 1.1, 1.2, 2.1)])
    meter.samples = [Sample(1.05, 49.0, 1e9, 2e9, 60.0, 4), Sample(1.15, 53.0, 2e9, 2e9, 62.0, 1)]
    found = meter.window(Mark(0.95, 45.0), Mark(1.25, 60.0))  # the counter stood still before and after its edges
    assert found["power_w"] == pytest.approx(50.0) and found["energy_edges"] == 3  # at 1.0, 1.1 and 1.2
    assert found["power_naive_w"] == pytest.approx(15.0 / 0.3)
    assert (found["power_sample_w"], found["sm_clock_hz"], found["temperature_c"]) == (51.0, 1.5e9, 61.0)
    assert found["throttle_bits"] == 5


def test_without_edges_it_is_the_readings_and_without_a_counter_the_samples():
    meter = Meter(SimpleNamespace(), samples=[Sample(1.0, 70.0)])
    assert meter.window(Mark(0.0, 0.0), Mark(2.0, 120.0))["power_w"] == 60.0
    assert meter.window(Mark(0.0, math.nan), Mark(2.0, math.nan))["power_w"] == 70.0


def powercap(folder: Path, packages: int = 1) -> Path:
    """A powercap folder with a package, a part of it, and a second door to it."""
    for name, said in [
        *((f"intel-rapl:{i}", f"package-{i}") for i in range(packages)), ("intel-rapl:0:0", "core"),
        ("intel-rapl-mmio:0", "package-0"), ("intel-rapl:9", "psys"),
    ]:  # fmt: skip
        (folder / name).mkdir(parents=True)
        (folder / name / "name").write_text(said + "\n")
        (folder / name / "max_energy_range_uj").write_text("1000000\n")
        (folder / name / "energy_uj").write_text("900000\n")
    return folder


def test_rapl_adds_packages_and_survives_the_wrap(tmp_path):
    counter = RaplCounter(str(powercap(tmp_path, packages=2)))
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("950000\n")
    assert counter.energy_j() == pytest.approx(0.05)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("30000\n")  # past 1000000 and on to 30000: 80000 more
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("910000\n")
    assert counter.energy_j() == pytest.approx(0.05 + 0.08 + 0.01)
    assert counter.describe()["packages"] == 2 and counter.scope == "package"


def test_rapl_that_root_alone_reads_says_which_file_and_how_to_allow_it(tmp_path, monkeypatch):
    def refuse(path: str, **options: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    powercap(tmp_path)
    monkeypatch.setattr(rapl, "_line", lambda path: "package-0")
    monkeypatch.setattr(rapl, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"intel-rapl:0/energy_uj is readable by root alone.*sudo chmod a\+r"):
        RaplCounter(str(tmp_path))


def test_rapl_that_is_not_there_says_where_it_would_be(tmp_path):
    with pytest.raises(InputError, match=r"rapl: no package in .*intel-rapl:0"):
        RaplCounter(str(tmp_path))


class FakeError(Exception):
    """What a fake NVML raises."""


def fake_nvml(monkeypatch: pytest.MonkeyPatch, **answers: object) -> None:
    """pynvml with these answers; every other call is refused."""
    module = ModuleType("pynvml")
    module.NVMLError = FakeError
    module.NVML_CLOCK_SM, module.NVML_CLOCK_MEM, module.NVML_TEMPERATURE_GPU = 1, 2, 0

    def refused(*arguments: object) -> None:
        raise FakeError("Not Supported")

    given = {
        "nvmlInit": None, "nvmlDeviceGetHandleByIndex": "handle", "nvmlDeviceGetTotalEnergyConsumption": 2500,
        "nvmlDeviceGetPowerUsage": 60000, "nvmlDeviceGetName": b"Fake GPU", "nvmlSystemGetDriverVersion": "1.2",
    } | answers  # fmt: skip
    for name in ("nvmlDeviceGetFieldValues", "nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperature", "nvmlInit",
                 "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetMaxClockInfo",
                 "nvmlDeviceGetCurrentClocksEventReasons"):  # fmt: skip
        setattr(module, name, refused)
    for name, answer in given.items():
        value = refused if answer is FakeError else (lambda *arguments, answer=answer: answer)
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", module)


def test_nvml_reads_si_units_and_takes_refusals_as_unknown(monkeypatch):
    fake_nvml(monkeypatch, nvmlDeviceGetClockInfo=1410)
    counter = NvmlCounter()
    sample = counter.sample()
    assert counter.energy_j() == 2.5  # of 2500 mJ
    assert (sample.power_w, sample.sm_clock_hz) == (60.0, 1.41e9)  # of 60000 mW and 1410 MHz
    assert math.isnan(sample.temperature_c) and sample.throttle_bits == 0
    assert counter.describe()["metered"] == "Fake GPU" and counter.describe()["power_field"] == "average"


def test_nvml_without_an_energy_counter_goes_by_power(monkeypatch):
    fake_nvml(monkeypatch, nvmlDeviceGetTotalEnergyConsumption=FakeError)
    assert math.isnan(NvmlCounter().energy_j()) and NvmlCounter().sample().power_w == 60.0


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"nvmlInit": FakeError}, "nvml: no NVIDIA driver answers"),
        ({"nvmlDeviceGetHandleByIndex": FakeError}, "expected a GPU that nvidia-smi lists"),
        (
            {"nvmlDeviceGetTotalEnergyConsumption": FakeError, "nvmlDeviceGetPowerUsage": FakeError},
            "neither energy nor power",
        ),
    ],
)
def test_nvml_that_cannot_be_read_says_why(monkeypatch, answers, said):
    fake_nvml(monkeypatch, **answers)
    with pytest.raises(InputError, match=said):
        NvmlCounter()


def fake_zeus(monkeypatch: pytest.MonkeyPatch, gpus: object = None, chip: object = None) -> None:
    """zeus.device that finds these, or fails to."""

    def found(thing: object) -> object:
        if thing is None:
            raise RuntimeError("none found")
        return thing

    module = ModuleType("zeus.device")
    module.get_gpus, module.get_soc = lambda: found(gpus), lambda: found(chip)
    monkeypatch.setitem(sys.modules, "zeus", ModuleType("zeus"))
    monkeypatch.setitem(sys.modules, "zeus.device", module)


def test_zeus_meters_a_gpu_or_else_a_chip(monkeypatch):
    gpu = SimpleNamespace(
        supports_get_total_energy_consumption=lambda: True, get_total_energy_consumption=lambda: 4000,
        get_instant_power_usage=lambda: 90000, get_gpu_temperature=lambda: 55, get_name=lambda: "MI fake",
    )  # fmt: skip
    fake_zeus(monkeypatch, gpus=SimpleNamespace(gpus=[gpu]))
    counter = ZeusCounter()
    assert (counter.energy_j(), counter.scope, counter.sample().power_w) == (4.0, "board", 90.0)
    apple = SimpleNamespace(cpu_total_mj=1000, gpu_mj=500, dram_mj=None)
    fake_zeus(monkeypatch, chip=SimpleNamespace(get_total_energy_consumption=lambda: apple))
    assert (ZeusCounter().energy_j(), ZeusCounter().scope) == (1.5, "package")
    jetson = SimpleNamespace(cpu_energy_mj=1000.0, total_energy_mj=7000.0)
    fake_zeus(monkeypatch, chip=SimpleNamespace(get_total_energy_consumption=lambda: jetson))
    assert ZeusCounter().energy_j() == 7.0  # the board's own total, not its parts


def test_no_meter_at_all_says_why_for_each_on_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(rapl.RaplCounter.__init__, "__defaults__", (str(tmp_path),))
    fake_zeus(monkeypatch)
    with pytest.raises(InputError) as caught:
        open_counter("auto", "cpu")
    said = str(caught.value)
    assert said.startswith("no meter of cpu can be read: rapl: no package in") and "zeus: neither" in said
    assert "\n" not in said


def test_a_meter_that_is_misspelt_is_suggested():
    with pytest.raises(InputError, match=r"--meter nvlm: no such meter.*did you mean nvml"):
        open_counter("nvlm", "cuda")

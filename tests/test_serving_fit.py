"""The fit of serving engines: what was put in comes out, files keep the rest, and every row is judged or named."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pytest.importorskip("scipy")

from benchmarks import accuracy  # noqa: E402
from wattir.backends.fit.datasets_serving import PROMPTS, architecture, demand_of, mlenergy_v2, mlenergy_v3, window  # noqa: E402
from wattir.backends.fit.fit_serving import Conditions, fit, law, predict, solution  # noqa: E402
from wattir.backends.fit.whole_runs import crossed_reports, nested_widths  # noqa: E402
from wattir.backends.fit.write import with_engine, with_fit  # noqa: E402
from wattir.device import device_folder, load_device  # noqa: E402
from wattir.errors import InputError  # noqa: E402
from wattir.serving import engine_on  # noqa: E402
from wattir.serving_model import Deployment, Request  # noqa: E402
from wattir.serving_report import Load, serve  # noqa: E402

H100 = load_device("h100_sxm")
PATH = Path(device_folder()) / "h100_sxm.toml"


def table(models: list[str], batches: list[int], task: str = "lm-arena-chat"):
    rows = [
        {"model_id": model, "task": task, "gpu_model": "H100", "tensor_parallel": 1, "expert_parallel": 1,
         "data_parallel": 1, "num_gpus": 1, "batch_size_mean_running": batch, "output_tokens_mean": 300.0,
         "output_tokens_std_from_hist": 0.0, "output_tokens_per_s": 1000.0, "energy_j_per_output_token": 0.1,
         "flag_stalled": 0}
        for model in models for batch in batches
    ]  # fmt: skip
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Measured:
    """What `crossed_reports` asks of rows."""

    group: object
    measured: object


def put(folder: Path, frame) -> Path:
    where = folder / "mlenergy_v3_llm"
    where.mkdir()
    frame.to_csv(where / "data.csv", index=False)
    return where


@pytest.fixture
def rows(tmp_path):
    frame = table(["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B"], [1, 8, 64, 256])
    return mlenergy_v3(str(put(tmp_path, frame)), "H100", H100)


def test_a_row_is_what_the_command_would_answer(rows):
    """The grid at one of its own prompt lengths is the same sum as `wattir estimate`."""
    engine, isl = engine_on(H100), PROMPTS[4]
    time_s, energy_j = predict(H100, engine, rows, Conditions({"lm-arena-chat": float(isl)}, {}))
    found = serve("Qwen/Qwen3-8B", H100, Request(isl, 300), Load(64), Deployment())
    at = int(np.flatnonzero((rows.model == "Qwen/Qwen3-8B") & (rows.texts == 64))[0])
    assert time_s[at] == pytest.approx(found.tpot_s) and energy_j[at] == pytest.approx(found.token_j)


def test_the_fit_finds_what_the_rows_were_made_with(rows):
    own = law(H100, "vllm", ("lm-arena-chat",))
    space = own.space
    logs = space.start.copy()
    logs[space.names.index("prompt lm-arena-chat")] = np.log(700.0)
    logs[space.names.index("host_text_s")] += np.log(3.0)
    truth = solution(space, "vllm", logs)
    made = predict(H100, truth.engine, rows, truth.conditions)
    object.__setattr__(rows, "time_s", made[0])
    object.__setattr__(rows, "energy_j", made[1])
    found = solution(space, "vllm", own.solve(rows))
    assert found.conditions.prompts["lm-arena-chat"] == pytest.approx(700.0, rel=0.3)
    again = predict(H100, found.engine, rows, found.conditions)
    assert np.abs(np.log(again[1] / made[1])).max() < 0.08


def test_a_table_without_rows_of_the_machine_says_so(tmp_path):
    folder = str(put(tmp_path, table(["Qwen/Qwen3-8B"], [1, 8])))
    with pytest.raises(InputError, match="none of its rows are of this machine"):
        fit(load_device("b200_sxm"), "vllm", mlenergy_v3(folder, "B200", load_device("b200_sxm")), print)


def test_what_a_measurement_sees_of_answers_of_one_length():
    """All begin and end at once, so they are half done on average; of 1.5 rounds the second is seen to its end."""
    for later in (0.25, 1.0, 1.5):
        seen = window(later, 0.0)
        assert seen.age == pytest.approx(0.5) and seen.rate == pytest.approx(later / (1.0 if later < 1.0 else 2.0))
    assert window(100.0, 1.0) is None


def test_few_answers_that_end_show_contexts_shorter_than_the_steady_state():
    """Age in the steady state: (1 + spread^2) / 2 of a mean answer; a window over many answers comes close to it."""
    few, many = window(0.1, 1.0), window(5.5, 1.0)
    assert few.age < 0.3 < many.age < 1.0 and few.rate < many.rate == pytest.approx(1.0, abs=0.15)


def test_a_row_of_a_short_measurement_has_a_smaller_cache(tmp_path):
    known = table(["Qwen/Qwen3-8B"], [64]).assign(max_num_seqs=64, output_tokens_std_from_hist=300.0)
    frame = pd.concat([known.assign(n_requests=count) for count in (70, 6400)])
    rows = mlenergy_v3(str(put(tmp_path, frame)), "H100", H100)
    short, long = (demand_of(rows.pure[at, 0][None]) for at in range(2))
    assert short.time_s["attention"] < 0.8 * long.time_s["attention"] and short.time_s["dense"] == long.time_s["dense"]


def test_siblings_are_one_architecture():
    assert architecture("Qwen/Qwen3-8B") == architecture("Qwen/Qwen3-VL-8B-Instruct")
    assert architecture("Qwen/Qwen3-8B") != architecture("Qwen/Qwen3-32B")


def test_every_row_is_judged_or_named(tmp_path, capsys):
    known = table(["Qwen/Qwen3-8B"], [1, 8, 64])
    stranger = table(["somebody/unheard-of-7B"], [1, 8])
    chess = table(["Qwen/Qwen3-8B"], [4], task="chess")
    other = table(["Qwen/Qwen3-8B"], [2]).assign(gpu_model="X900")
    put(tmp_path, pd.concat([known, stranger, chess, other]))
    assert accuracy.main(["--data", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = {each["what"]: each["rows"] for each in said["sets"]}
    assert rows == {"vllm lm-arena-chat": 3, "vllm text": 3, "vllm all": 3}
    assert {"coverage", "median_ape", "tau"} <= set(said["sets"][0]["energy"])
    left = " ".join(each["why"] for each in said["not_predicted"])
    assert sum(each["rows"] for each in said["not_predicted"]) == 4
    assert "unheard-of-7B" in left and "no device file for X900" in left and "prompt length" in left


def test_rows_are_judged_by_fits_and_intervals_without_their_group():
    """Two of three groups are off by 10 %, one by 50 %: the interval of the others is too narrow for it."""
    groups = np.repeat(["a", "b", "c"], 4)
    errors = np.tile(np.where(groups == "c", np.log(1.5), np.log(1.1)), (2, 1))
    assert nested_widths(errors[1], groups, groups != "d").round(3).tolist() == [0.405] * 8 + [0.095] * 4

    rows = Measured(groups, np.full((2, 12), 3.0))
    found = dict(crossed_reports(rows, errors, {"all": groups != "d", "c": groups == "c"}, groups != "d"))
    assert found["all"]["energy"]["coverage"] == pytest.approx(8 / 12, abs=1e-3)
    assert found["all"]["energy"]["median_ape"] == pytest.approx(0.1) and found["c"]["time"]["bias"] == 0.5


def test_files_keep_all_else():
    """An engine replaces its own tables alone, and a fit of kernels leaves engines as they are."""
    text, engine = PATH.read_text(encoding="utf-8"), engine_on(H100)
    again = with_engine(text, engine)
    assert tomllib.loads(again) == tomllib.loads(text)
    assert with_engine(again, engine) == again
    refitted = tomllib.loads(with_fit(text, H100, tomllib.loads(text)["interval"], tomllib.loads(text)["fit"]))
    assert refitted["serving"] == tomllib.loads(text)["serving"]


def test_prompts_of_images_pass_the_tower(tmp_path):
    """As many tokens as a text, and the seconds of the tower that made them."""
    seeing, plain = "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-8B"
    frame = pd.concat([table([seeing], [16], task) for task in ("lm-arena-chat", "image-chat")]
                      + [table([plain], [16], "image-chat")])  # fmt: skip
    rows = mlenergy_v3(str(put(tmp_path, frame)), "H100", H100)
    text, image, blind = (demand_of(rows.mixed[at, PROMPTS.index(2048)][None]).time_s for at in range(3))

    assert 1.05 * text["dense"] < image["dense"] < 2.0 * text["dense"]
    assert image["prefill"] > text["prefill"] and blind["dense"] == pytest.approx(text["dense"], rel=0.01)


def test_steps_of_vllm_2024_wait_for_its_host(tmp_path):
    """Stages divide devices; texts run in as many batches as there are stages."""
    frame = pd.DataFrame([
        {"model_id": "meta-llama/Meta-Llama-3.1-70B-Instruct", "task": "llm-chat", "gpu_model": "NVIDIA H100 80GB HBM3",
         "tensor_parallel": 4, "pipeline_parallel": 2, "num_gpus": 8, "batch_size_mean_running": 64.0,
         "output_tokens_mean": 300.0, "output_tokens_per_s": 1000.0, "energy_j_per_output_token": 2.0},
    ])  # fmt: skip
    frame.to_csv(tmp_path / "data.csv", index=False)
    rows = mlenergy_v2(str(tmp_path), "NVIDIA H100 80GB HBM3", H100)

    assert rows.devices.tolist() == [8.0] and rows.texts.tolist() == [32.0] and rows.time_s.tolist() == [0.064]
    old, new = (engine_on(H100, name) for name in ("vllm_2024", "vllm"))
    assert old.host_text_s > 2 * new.host_text_s  # PROVENANCE.md of the set: scheduling and sampling on the host

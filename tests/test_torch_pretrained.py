"""Hugging Face configurations: files, directories and objects, with nothing downloaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wattir
from wattir.costs import tabulate
from wattir.errors import InputError, ModelFileError, UnsupportedError
from wattir.frontends.torch.pretrained import declare_torchvision_ops

ROOT = Path(__file__).parents[1]
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}  # fmt: skip
PRODUCTS = 2 * (64 * (64 + 2 * 32 + 64) + 3 * 64 * 128) + 64 * 100
"""Multiply-adds of one token in LLAMA's matrix products; each is a weight, too."""
PARAMS = PRODUCTS + 100 * 64 + 5 * 64  # and the embedding and five norms


def written(folder: Path, values: dict[str, Any]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return str(path)


def totals(graph: Any, **sizes: int) -> dict[str, Any]:
    return wattir.estimate(graph, device="h100_sxm", sizes=sizes).to_dict()["totals"]


@pytest.fixture(scope="module")
def transformers() -> Any:
    pytest.importorskip("torch")
    found = pytest.importorskip("transformers")
    declare_torchvision_ops()  # its classes import torchvision where that is there
    return found


def test_prefill(tmp_path: Path, transformers: Any) -> None:
    graph = wattir.lower(written(tmp_path, LLAMA), {"seq": 16})
    assert graph.batch == "batch" and set(graph.sizes) == {"batch", "seq"}
    attention = 2 * 2 * 64 * 24  # two layers, two products of all heads' width, for one token over 24
    found = totals(graph, batch=3, seq=24)
    assert found["params"] == PARAMS
    assert found["flop"] == 2 * 3 * 24 * (PRODUCTS + attention)


def test_one_step(tmp_path: Path, transformers: Any) -> None:
    graph = wattir.lower(written(tmp_path, LLAMA), {"past": 15})
    assert set(graph.sizes) == {"batch", "past"}
    found = totals(graph, batch=2, past=31)
    assert found["flop"] == 2 * 2 * (PRODUCTS + 2 * 2 * 64 * 32)  # the new token sees 31 and itself
    assert found["state_bytes"] >= 2 * 2 * 2 * 32 * 31 * 2  # keys and values of two layers, 32 wide, are read


def test_object_equals_file(tmp_path: Path, transformers: Any) -> None:
    path = written(tmp_path, LLAMA)
    sizes = {"batch": 2, "seq": 8}
    from_file = totals(wattir.lower(path, {"seq": 8}), **sizes)
    config = transformers.LlamaConfig(**LLAMA)
    from_object = totals(wattir.lower(config, {"seq": 8}), **sizes)
    assert {key: from_object[key] for key in ("params", "flop")} == {key: from_file[key] for key in ("params", "flop")}
    assert totals(wattir.lower(str(tmp_path), {"seq": 8}), **sizes) == from_file


def test_images(transformers: Any) -> None:
    config = transformers.AutoConfig.for_model(
        "vit",
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=16,
    )
    config.architectures = ["ViTModel"]
    graph = wattir.lower(config)
    assert graph.tensors[graph.inputs[0]].shape[1:] == (3, 32, 32)


def test_models_of_text_and_images_without_architectures_are_asked_with_text(transformers: Any) -> None:
    seeing = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    text = transformers.LlamaConfig(**LLAMA)
    seen = transformers.CLIPVisionConfig(**seeing)
    graph = wattir.lower(transformers.LlavaNextConfig(text_config=text, vision_config=seen), {"seq": 8})
    assert list(graph.inputs) == ["input_ids"]
    alone = totals(wattir.lower(text, {"seq": 8}), batch=2, seq=8)
    assert totals(graph, batch=2, seq=8)["flop"] == alone["flop"]


def test_codecs_compute_paddings_with_numbers_that_they_hold(transformers: Any) -> None:
    """The sizes of Encodec's convolutions follow from strides in its buffers; torch counts those of a real pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.EncodecConfig(num_filters=2, hidden_size=16, codebook_size=16, num_lstm_layers=1)
    graph = wattir.lower(config, {})
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        transformers.EncodecModel(config).eval()(torch.zeros(1, 1, 16_000))
    counted = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert sum(2 * work.macs for work in tabulate(graph) if work.kind == "conv") == counted


BAD: dict[str, tuple[Any, str]] = {
    "no json": ("{", "no JSON"),
    "a list": ([], "a list; expected an object"),
    "no type": ({"hidden_size": 3}, "no model_type"),
    "near miss": ({"model_type": "lama"}, "did you mean .*llama"),
    "remote code": ({"model_type": "mine", "auto_map": {"AutoModel": "x.Y"}}, "code of a repository is never run"),
    "wrong values": (LLAMA | {"num_attention_heads": 0}, "LlamaConfig|config"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path, transformers: Any) -> None:
    content, expected = BAD[name]
    path = tmp_path / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises((ModelFileError, UnsupportedError), match=expected) as refused:
        wattir.lower(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("given", [{"sequence": 3}, {"seq": 0}, {"seq": "long"}, [3]])
def test_bad_settings(given: Any, tmp_path: Path, transformers: Any) -> None:
    with pytest.raises(InputError, match="inputs of a configuration"):
        wattir.lower(written(tmp_path, LLAMA), given)


def test_without_transformers(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\nimport wattir\n"
        f"try: wattir.lower({written(tmp_path, {'model_type': 'vit'})!r})\n"
        "except wattir.errors.InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "pip install transformers" in done.stdout, done.stderr

"""Values of a configuration, each checked when it is asked for; errors name the key and the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wattir import reading
from wattir.errors import ModelFileError, suggestion

LARGEST = 2**24
"""No width, count of layers or vocabulary is larger; what claims to be is damaged."""


class Keys:
    """A mapping with the place it came from: a path, or a name and its table. `asked`: the keys that were looked at."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where
        self.asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> Any:
        """The value, which may be anything; None where there is none."""
        self.asked.add(key)
        return self.values.get(key)

    def whole(self, key: str, *others: str, default: int | None = None, least: int = 1) -> int:
        """A whole number under the first of these keys that is there."""
        found = next((name for name in (key, *others) if name in self), None)
        if found is None:
            if default is None:
                raise self.missing(key, "a whole number")
            return default
        value = self.values[found]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
            raise self.wrong(found, f"a whole number from {least} to {LARGEST}")
        return value

    def number(self, key: str, default: float) -> float:
        """A number of at least 0."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= LARGEST:
            raise self.wrong(key, f"a number from 0 to {LARGEST}")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """True or False."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self.get(key)
        if value is None:
            if default is None:
                raise self.missing(key, "a text")
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def words(self, key: str) -> list[Any]:
        """A list, or none."""
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > LARGEST:
            raise self.wrong(key, "a list")
        return value

    def part(self, key: str) -> Keys:
        """A configuration in this one."""
        value = self.get(key)
        if value is None:
            raise self.missing(key, "a configuration")
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a configuration")
        return Keys(value, f"{self.where}: {key}")

    def missing(self, key: str, expected: str) -> ModelFileError:
        """The error of a key that is not there."""
        return ModelFileError(
            f"{self.where}: no key {key!r}; expected {expected}{suggestion(key, map(str, self.values))}"
        )

    def wrong(self, key: str, expected: str) -> ModelFileError:
        """The error of a value that cannot be."""
        return ModelFileError(f"{self.where}: {key} = {str(self.values[key])[:60]!r}; expected {expected}")


SHAPING = frozenset({
    "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "zero_expert_num", "moe_latent_size",
    "kv_lora_rank", "index_topk", "cross_attention_layers", "attention_k_eq_v", "num_kv_shared_layers",
    "hidden_size_per_layer_input", "altup_num_inputs", "hc_mult", "ssm_state_size", "mamba_d_state", "mamba_num_heads",
    "mamba_n_heads", "linear_num_value_heads", "linear_attn_config", "lru_width", "layers_block_type", "block_types",
    "hybrid_override_pattern", "full_attn_idxs", "per_layer_config", "block_configs",
})  # fmt: skip
"""Keys of parts of a network that change what has to be computed."""


def unread(keys: Keys) -> list[str]:
    """Keys of `SHAPING` that say something and that nobody looked at: this model of a known type is another one."""
    return [key for key in keys.values if key in SHAPING - keys.asked and keys.values[key] not in (None, 0, 1, "", [])]


def read_json(path: str) -> Keys:
    """The object in a JSON file."""
    return Keys(reading.read_json(path, "a config.json of transformers", ModelFileError), path)

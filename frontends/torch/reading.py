"""What `lower` is given -> a `Program`, by the way in that fits."""

from __future__ import annotations

import os
from typing import Any

from wattir.errors import UnsupportedError
from wattir.frontends.torch.inputs import inputs_of
from wattir.frontends.torch.program import Program


def program_of(model: Any, inputs: Any) -> Program:
    """The Program of a path, a module or an exported program."""
    if _is_configuration(model):
        from wattir.frontends.torch.pretrained import read_config

        return read_config(model, inputs)
    if isinstance(model, (str, os.PathLike)):
        from wattir.frontends.torch.archive import read_archive

        return read_archive(model)
    import torch

    if isinstance(model, torch.export.ExportedProgram):
        from wattir.frontends.torch.exported import read_exported

        return read_exported(model)
    if isinstance(model, torch.nn.Module):
        from wattir.frontends.torch.modules import read_module

        return read_module(model, inputs_of(inputs))
    raise UnsupportedError(f"a {type(model).__name__}; expected a torch.nn.Module or a torch.export.ExportedProgram")


def _is_configuration(model: Any) -> bool:
    """Whether a model is a Hugging Face configuration: an object of one, its file, or the directory of it."""
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model).endswith(".json") or os.path.isdir(model)
    return hasattr(model, "model_type") and hasattr(model, "to_dict") and not hasattr(model, "forward")

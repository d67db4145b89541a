"""Machines and engines: device files, the compiled engine, the fit."""

if __name__ != "wattir.backends":
    raise ImportError(f"import wattir.backends, not {__name__}: this folder is a part of wattir")

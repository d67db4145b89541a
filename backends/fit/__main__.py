"""``python -m wattir.backends.fit ...`` is ``wattir fit ...``."""

import sys
from importlib import import_module

if __name__ == "__main__":
    sys.exit(import_module("wattir.cli").main(["fit", *sys.argv[1:]]))

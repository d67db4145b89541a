"""``python -m wattir`` and the installed command ``wattir``."""

from __future__ import annotations

import sys

from wattir.cli import main

if __name__ == "__main__":
    sys.exit(main())

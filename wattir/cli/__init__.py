"""The command line: one module per verb, each with `HELP`, `EXAMPLES`, `add_arguments(parser)` and `run(arguments)`.

Exit codes: 0; 1 where a check the user asked for fails; 2 for bad input, with one line on stderr; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from wattir.cli.parser import parse
from wattir.errors import WattirError

INTERRUPTED = 130
"""128 + SIGINT, as shells count it."""
PIPE_CLOSED = 141
"""128 + SIGPIPE: who read our output went away, as in ``wattir layers ... | head``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code. Nothing but a bug in argparse leaves through an exception."""
    if sys.stdout is None:  # closed by the caller: there is nobody to tell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # stays open to the end
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a layer's name must not break an ASCII terminal
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as leaving:  # argparse: --help, --version and usage errors
        return leaving.code if isinstance(leaving.code, int) else 2
    return _guarded(arguments)


def _guarded(arguments: Namespace) -> int:
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that closing at exit does not fail too
        return PIPE_CLOSED
    except WattirError as error:
        return _complain(arguments, str(error), error.exit_code)
    except OSError as error:
        return _complain(arguments, f"{error.filename or 'output'}: {error.strerror or error}", 2)
    except Exception as error:
        found = f"internal error: {type(error).__name__}: {error}; please report it; --debug shows the traceback"
        return _complain(arguments, found, 2)


def _complain(arguments: Namespace, message: str, code: int) -> int:
    if arguments.debug:
        import traceback

        traceback.print_exc()
    print(f"wattir: {printable(message)}", file=sys.stderr)
    return code


def printable(text: str) -> str:
    """The text on one line, without control characters: names come from files that anyone may have written."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))

"""How a stage ends when something is wrong with its input: one message, no traceback."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError


def run(main: Callable[[], None]) -> None:
    """Call a stage's ``main``; an error meant for the user becomes ``<stage>: message`` and exit status 1.

    With ASSAY_TRACEBACK=1 in the environment the traceback is shown instead.
    """
    try:
        main()
    except (ValueError, RuntimeError, ArithmeticError, OSError, SafetensorError) as error:
        if os.environ.get("ASSAY_TRACEBACK") == "1":
            raise
        message = str(error) or type(error).__name__
        sys.exit(f"{Path(inspect.getfile(main)).stem}: {message}\n(ASSAY_TRACEBACK=1 shows where)")

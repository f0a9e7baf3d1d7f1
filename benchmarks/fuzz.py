"""Files changed at random, a thousand times each, through every door: the tests of damaged files with larger numbers.

    python benchmarks/fuzz.py --count 1000

Prints what was found: a crash, a traceback, a file that takes more than 10 s or 2 GiB; exit status 1 if anything was.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="changes of each file (%(default)s)")
    only = "test_of_a_changed or test_a_changed"
    parser.add_argument("--only", default=only, help="as pytest -k: names of tests (%(default)s)")
    flags = parser.parse_args()
    os.chdir(ROOT)
    os.environ["ASSAY_FUZZ"] = str(flags.count)
    return int(pytest.main(["-q", "--durations=0", "-vv", "-k", flags.only, "tests"]))


if __name__ == "__main__":
    sys.exit(main())

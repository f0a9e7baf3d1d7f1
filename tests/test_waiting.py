"""How OpenMP's threads wait: what the runtime itself says that it read when torch, faiss or sklearn loaded it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def what_the_runtime_read(program, **given):
    """(policy, spin count) of every GNU OpenMP that a Python program loads."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | given
    environment |= {"PYTHONPATH": str(ROOT / "src"), "OMP_DISPLAY_ENV": "verbose"}
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300).stderr
    policies = re.findall(r"OMP_WAIT_POLICY = '(\w+)'", said)
    return set(zip(policies, re.findall(r"GOMP_SPINCOUNT = '(\d+)'", said), strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP")
@pytest.mark.parametrize("library", ["torch", "faiss", "sklearn.ensemble", "lightgbm"])
def test_threads_give_the_core_away_early(library):
    assert what_the_runtime_read(f"import assay, {library}") == {("PASSIVE", "1000")}


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP")
@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000"),
    ],
    ids=["spin count", "policy"],
)
def test_the_users_own_setting_counts(given, read):
    assert {count for _, count in what_the_runtime_read("import assay, sklearn.ensemble", **given)} == {read}


def test_worker_processes_have_it_too():
    program = (
        "from multiprocessing import get_context; import assay, os\n"
        "with get_context('spawn').Pool(1) as pool: print(pool.apply(os.getenv, ['GOMP_SPINCOUNT']))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1000\n"

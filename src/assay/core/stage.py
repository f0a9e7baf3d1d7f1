"""What every stage has around its work: a check of its code, what it cost, and how it ends when its input is wrong.

Clock times differ from run to run, so they go to ``timings/<stage>.json``, which git and DVC both ignore.
"""

from __future__ import annotations

import gc
import inspect
import os
import re
import resource
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import psutil
from ruamel.yaml import YAML
from safetensors import SafetensorError

from assay.closure import check_code
from assay.core.io import write_json
from assay.core.params import read_yaml

TIMINGS = Path("timings")
# Where DVC lays the folders in which experiments of --temp and --queue work.
EXPERIMENTS = (".dvc", "tmp", "exps")
OWN_DATA = Path("data/own")
# Python's own thresholds of the garbage collector, which assay.stages raises while it imports.
COLLECTOR = (700, 10, 10)


def run(main: Callable[[], None]) -> None:
    """Call a stage's ``main``; an error meant for the user becomes ``<stage>: message`` and exit status 1.

    Run by DVC, which sets DVC_ROOT, a stage starts only if its code is what ``code/<stage>.json`` says. With
    ASSAY_TRACEBACK=1 in the environment the traceback is shown in the place of the message.
    """
    stage = Path(inspect.getfile(main)).stem
    try:
        if root := os.environ.get("DVC_ROOT"):
            # With --temp DVC_ROOT is the project, not the experiment's folder, in which the stage works.
            check_own_data(os.environ.get("DVC_STAGE", stage), Path.cwd())
            check_code(stage, root=Path(root))
        main()
        follow_umask(os.environ.get("DVC_STAGE", stage), Path.cwd())
    except (ValueError, RuntimeError, ArithmeticError, OSError, SafetensorError) as error:
        if os.environ.get("ASSAY_TRACEBACK") == "1":
            raise
        message = str(error) or type(error).__name__
        sys.exit(f"{stage}: {message}\n(ASSAY_TRACEBACK=1 shows where)")


def check_own_data(stage: str, root: Path) -> None:
    """Refuse to work in an experiment's own folder without own data that the project has.

    ``dvc exp run --temp`` and the queue lay out what git and DVC keep, no more: a result would be that of other data.

    Args:
        stage: as in dvc.yaml; what counts are its dependencies below ``data/own``.
        root: where the stage works: the project, or an experiment's copy of it.

    Raises:
        ValueError: naming what is missing and the commands that mend it.
    """
    parts = root.resolve().parts
    places = [place for place in range(len(parts)) if parts[place : place + len(EXPERIMENTS)] == EXPERIMENTS]
    if not places:
        return
    project = Path(*parts[: places[0]])
    dependencies = read_yaml(root / "dvc.yaml")["stages"].get(stage.split("@")[0], {}).get("deps", [])
    for name in dependencies:
        if not (isinstance(name, str) and Path(name).is_relative_to(OWN_DATA) and (project / name).is_dir()):
            continue
        names = sorted(path.name for path in (project / name).iterdir() if not path.name.startswith("."))
        lacking = [entry for entry in names if not os.path.lexists(root / name / entry)]
        if lacking:
            shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            raise ValueError(
                f"this experiment's folder holds what git and DVC keep, and of {name} neither keeps {shown}: run dvc exp "
                f"run without --temp and --queue, or: dvc add '{name}/{lacking[0]}'; git add '{name}/{lacking[0]}.dvc'"
            )


def follow_umask(stage: str, root: Path) -> None:
    """Give the stage's outputs the modes that the umask asks for where a library made them private.

    safetensors, and what saves by it, writes every file with mode 0600: a colleague, or a service of another user, could
    read all of a model but its weights.

    Args:
        stage: as in dvc.yaml; of a group's stages those beside it are looked at, too.
        root: where the stage works; without a dvc.yaml there (a trial's folder) nothing is done.
    """
    path = root / "dvc.yaml"
    if not path.is_file():
        return
    body = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"].get(stage.split("@")[0], {})
    # Python tells the umask only when it is set; private meanwhile.
    umask = os.umask(0o077)
    os.umask(umask)
    for out in body.get("do", body).get("outs", ()):
        name = out if isinstance(out, str) else next(iter(out))
        for found in glob(re.sub(r"\$\{[^}]*\}", "*", name), root_dir=root):
            for file in [root / found, *(root / found).rglob("*")]:
                status = file.lstat()
                # A file with a second name may be one of DVC's cache.
                if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600 and status.st_nlink == 1:
                    file.chmod(0o666 & ~umask)


def _peak_bytes() -> int:
    # ru_maxrss counts KiB on Linux and bytes on macOS; children are the decoding processes.
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit


@contextmanager
def timed(stage: str, *, folder: Path = TIMINGS) -> Iterator[dict[str, float]]:
    """Measure a stage and write ``<folder>/<stage>.json`` when it ends without an error.

    Yields a dict for further measurements of the stage's own (images a second, say). Written beside them: ``wall_s`` from
    the start of the process, ``startup_s`` of it spent starting Python and importing before the work (what is imported
    at its first use counts as work), ``cpu_s`` and ``peak_bytes`` of the largest process.
    """
    process = psutil.Process()
    startup = time.time() - process.create_time()
    # What the imports made stays to the end; the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(*COLLECTOR)
    own: dict[str, float] = {}
    yield own
    cpu = process.cpu_times()
    record = {
        "stage": stage,
        "wall_s": round(time.time() - process.create_time(), 3),
        "startup_s": round(startup, 3),
        "cpu_s": round(cpu.user + cpu.system + cpu.children_user + cpu.children_system, 3),
        "peak_bytes": _peak_bytes(),
        **{key: round(value, 3) for key, value in own.items()},
    }
    write_json(folder / f"{stage}.json", record)

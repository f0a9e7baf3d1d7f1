"""``assay``: the commands beside DVC's own. Each is a few lines over the library."""

from __future__ import annotations

import argparse
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from assay import __version__
from assay.cli_models import Commands, add_command, add_model_commands, positive, usable_cpus


def check(arguments: argparse.Namespace) -> int:
    """Check parameters, deps, outputs, links and dvc.lock; 1 if something is wrong. Warns of what may go wrong.

    With --data: what every later stage needs of the data, and what the whole line takes in time, memory and disk.
    """
    if arguments.data:
        from assay.preflight.command import check_data

        return check_data(quick=arguments.quick, jobs=arguments.jobs or 1)
    if arguments.quick or arguments.jobs:
        raise ValueError("--quick and --jobs say how --data is checked: add --data")
    from assay_tools.gates import fix_lock, problems
    from assay_tools.repro.requirements import machine_warnings
    from assay_tools.site_cache import close_site_cache, open_to_others
    from assay_tools.workspace import warnings

    # The site cache before DVC opens it.
    if arguments.fix:
        if open_to_others():
            print(f"DVC's site cache is now {close_site_cache()}, closed to others")
        for name in fix_lock():
            print(f"dvc.lock: entry of {name} removed")
    told = open_to_others()
    found = problems()
    for line in [*(f"warning: {warning}" for warning in [*told, *warnings(), *machine_warnings()]), *found]:
        print(line, file=sys.stderr)
    print(f"{len(found)} problem(s)" if found else "all well")
    return 1 if found else 0


def params(arguments: argparse.Namespace) -> int:
    """Check a parameter file and, if it is not params.yaml itself, put it in its place."""
    from assay.params.use import use_params

    print(use_params(Path(arguments.use)))
    return 0


def gate(arguments: argparse.Namespace) -> int:
    """Green clone: in a fresh clone of what is committed, dvc repro must find nothing to run."""
    from assay_tools.gates import green_clone

    found = green_clone()
    print("\n".join(found) if found else "green clone: nothing would run")
    return 1 if found else 0


def repro(arguments: argparse.Namespace) -> int:
    """Bring stages up to date, independent ones side by side. One that fails stops only what needs it."""
    from assay_tools.repro.command import repro_here, repro_on_cluster

    if arguments.single_item and not arguments.targets:
        raise ValueError("--single-item needs targets")
    targets, options = arguments.targets, {"single_item": arguments.single_item, "force": arguments.force}
    if arguments.engine == "ray":
        return repro_on_cluster(targets, jobs=arguments.jobs, address=arguments.address, cpus=arguments.cpus, **options)
    return repro_here(targets, jobs=arguments.jobs or usable_cpus(), pull=arguments.pull, **options)


def why(arguments: argparse.Namespace) -> int:
    """What changed since a stage last ran, old and new, and what will run for it."""
    from assay_tools.why import explain, tell

    print(tell(explain(Path(), arguments.stage)))
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write the one-page report."""
    from assay.report.page import write_report

    print(f"report in {write_report(Path(arguments.output))}")
    return 0


def results(_: argparse.Namespace) -> int:
    """Write docs/results.md and what stands between marks in README.md and docs/, from metrics/ and params.yaml."""
    from assay.report.marks import write_results

    print("\n".join(map(str, write_results())))
    return 0


def study(arguments: argparse.Namespace) -> int:
    """Run the pipeline several times by a plan, what is begun first where it was left; keep what each run measured."""
    from assay_tools.study import list_runs, write_page
    from assay_tools.study import study as carry_out

    if arguments.table:
        print("\n".join(map(str, write_page())))
        return 0
    plan = Path(arguments.runs)
    if arguments.list:
        print("\n".join(list_runs(plan, only=arguments.only)))
        return 0
    return carry_out(plan, only=arguments.only, jobs=arguments.jobs or usable_cpus())


def add_study(commands: Commands) -> None:
    """The command ``study`` with its options."""
    one = add_command(commands, study, help="several trainings, every family held out: hours (docs/study.md)")
    one.add_argument("--runs", default="params/runs/study.yaml", metavar="FILE", help="the plan (%(default)s)")
    only = "these runs of it alone, by name or pattern: 'seed-*'"
    one.add_argument("--only", nargs="+", default=[], metavar="RUN", help=only)
    one.add_argument("--jobs", "-j", type=positive, metavar="N", help="stages at a time (the CPUs)")
    what = one.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="name the runs and how far they are, and run none")
    what.add_argument("--table", action="store_true", help="write the tables of docs/study.md, and run nothing")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="assay",
        description="Beside dvc, which builds: assay runs stages side by side, predicts, checks and reports.",
        epilog="Run from the root of the project, where dvc.yaml lies.",
    )
    parser.add_argument("--version", action="version", version=f"assay {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = add_command(commands, repro, help="dvc repro, independent stages side by side")
    one.add_argument("targets", nargs="*", metavar="TARGET", help="stages, or groups as train_expert (all stages)")
    jobs = "stages at a time (the CPUs; with Ray: what it has)"
    one.add_argument("--jobs", "-j", type=positive, metavar="N", help=jobs)
    one.add_argument("--single-item", "-s", action="store_true", help="the targets without the stages that they need")
    one.add_argument("--force", "-f", action="store_true", help="run stages also where nothing changed")
    one.add_argument("--pull", action="store_true", help="take from the DVC remote what it has")
    one.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: on a Ray cluster (%(default)s)")
    address = "of the Ray cluster, as ray start --head says it; needed with --engine ray"
    one.add_argument("--address", metavar="HOST:PORT", help=address)
    one.add_argument("--cpus", type=positive, default=2, help="CPUs that Ray keeps for a stage (%(default)s)")
    two = add_command(commands, why, help="why will a stage run, and what follows?")
    stage = "as in dvc.yaml, say train_expert@maxvit-full, or a group: train_expert"
    two.add_argument("stage", metavar="STAGE", help=stage)
    three = add_command(commands, check, help="check params.yaml, dvc.yaml, dvc.lock, links")
    fix = "drop what dvc.lock says of stages that are gone; close DVC's site cache"
    three.add_argument("--fix", action="store_true", help=fix)
    data = (
        "check the data instead, and try a few steps of every training: what is missing, time, memory, disk (minutes)"
    )
    three.add_argument("--data", action="store_true", help=data)
    three.add_argument("--quick", action="store_true", help="with --data: no training is tried (seconds)")
    three.add_argument(
        "--jobs", "-j", type=positive, metavar="N", help="with --data: stages that will run side by side (1)"
    )
    add_command(commands, gate, help="fresh clone: would dvc repro run anything?")
    five = add_command(commands, params, help="check a parameter file and use it")
    use = "say params/full.yaml, or default: the embedded one (%(default)s)"
    five.add_argument("--use", default="params.yaml", metavar="FILE", help=use)
    six = add_command(commands, report, help="metrics and plots on one page")
    six.add_argument("-o", "--output", default="report.html", help="file to write (%(default)s)")
    add_command(commands, results, help="write docs/results.md from metrics/")
    add_study(commands)
    add_model_commands(commands)
    return parser


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block by SystemExit, so that what is half written is removed."""
    # Python lets no other thread set handlers; and what the process was told to ignore (nohup) it ignores.
    mine = threading.current_thread() is threading.main_thread()
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if mine and signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def around(arguments: argparse.Namespace) -> AbstractContextManager[object]:
    """What a command runs in: with ``--no-verify`` the models are named where a library stumbles over them."""
    if getattr(arguments, "verify", True):
        return nullcontext()
    from assay.shipped.opening import Unverified

    return Unverified(Path(arguments.models))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; user errors are one line on standard error and exit status 2."""
    parsed = build_parser().parse_args(arguments)
    try:
        with ended_in_order(), around(parsed):
            return int(parsed.run(parsed))
    except (ValueError, OSError) as error:
        print(f"assay {parsed.command}: {error}", file=sys.stderr)
        return 2
    except sqlite3.Error as error:
        print(f"assay {parsed.command}: DVC's index in .dvc/tmp/site: {error}; is the disk full?", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # during seconds of imports, say
        print(f"assay {parsed.command}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())

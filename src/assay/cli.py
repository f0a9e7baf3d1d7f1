"""``assay``: the commands beside DVC's own. Each is a few lines over the library."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from assay import __version__


def check(arguments: argparse.Namespace) -> int:
    """Check parameters, deps and descriptions; 1 if something is wrong."""
    from assay.gates import fix_deps, problems

    if arguments.fix and fix_deps():
        print("dvc.yaml: code deps rewritten to the import closures")
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"{len(found)} problem(s)" if found else "all well")
    return 1 if found else 0


def params(arguments: argparse.Namespace) -> int:
    """Check a parameter file and, if it is not params.yaml itself, put it in its place."""
    from assay.params.use import use_params

    print(use_params(Path(arguments.use)))
    return 0


def gate(arguments: argparse.Namespace) -> int:
    """Green clone: in a fresh clone of what is committed, dvc repro must find nothing to run."""
    from assay.gates import green_clone

    found = green_clone()
    print("\n".join(found) if found else "green clone: nothing would run")
    return 1 if found else 0


def report(arguments: argparse.Namespace) -> int:
    """Write the one-page report."""
    from assay.reporting.page import write_report

    print(f"report in {write_report(Path(arguments.output))}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="assay",
        description="Helpers beside dvc: dvc repro builds, assay checks and reports.",
        epilog="Run from the root of the project, where dvc.yaml lies.",
    )
    parser.add_argument("--version", action="version", version=f"assay {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("check", help="check params.yaml, params/*.yaml and dvc.yaml", description=check.__doc__)
    one.add_argument("--fix", action="store_true", help="rewrite the stages' code deps to what they import")
    one.set_defaults(run=check)
    four = commands.add_parser("gate", help="fresh clone: would dvc repro run anything?", description=gate.__doc__)
    four.set_defaults(run=gate)
    three = commands.add_parser("params", help="check a parameter file and use it", description=params.__doc__)
    three.add_argument("--use", default="params.yaml", metavar="FILE", help="say params/full.yaml (%(default)s)")
    three.set_defaults(run=params)
    two = commands.add_parser("report", help="metrics and plots on one page", description=report.__doc__)
    two.add_argument("-o", "--output", default="report.html", help="file to write (%(default)s)")
    two.set_defaults(run=report)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; user errors are one line on standard error and exit status 2."""
    parsed = build_parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except (ValueError, OSError) as error:
        print(f"assay {parsed.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""``assay``: the commands beside DVC's own. Each is a few lines over the library."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from assay import __version__

if TYPE_CHECKING:
    import pandas as pd


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


def predict(arguments: argparse.Namespace) -> int:
    """Judge pictures: one row per input; exit status 3 if some input could not be used."""
    # Asked for first: a wrong name or a missing model is told before seconds of imports.
    output = Path(arguments.output) if arguments.output else None
    record = Path(arguments.models) / "cascade" / "cascade.json"
    if not record.is_file():
        raise ValueError(f"no {record}: run dvc repro evaluate_cascade, or give the folder of models by --models")
    from assay.cascade.predict import expand, open_cascade, predict_paths, write_rows
    from assay.outputs import check_output
    from assay.torch_runtime import set_up_torch

    check_output(output)
    set_up_torch(threads=arguments.threads)
    # A damaged file is a row; what PIL warns of on the way would only run through the progress bar.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    cascade = open_cascade(Path(arguments.models), device=arguments.device)
    inputs = expand(
        arguments.paths,
        recursive=arguments.recursive,
        stdin=sys.stdin.buffer if sys.stdin else None,
        null=arguments.null,
    )
    rows = predict_paths(cascade, inputs, batch_size=arguments.batch_size, decode_threads=arguments.threads)
    try:
        count, errors = write_rows(rows, output)
    except BrokenPipeError:  # the reader, say head, has seen enough
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("assay predict: interrupted" + (f"; {output} is not written" if output else ""), file=sys.stderr)
        return 128 + signal.SIGINT
    print(f"{count} input(s), {errors} error(s)" + (f", in {output}" if output else ""), file=sys.stderr)
    return 3 if errors else 0


def check_given(arguments: argparse.Namespace, *, one: str, stage: str) -> Path | None:
    """What can be told before seconds of imports; returns the output file, if any.

    Raises:
        ValueError: not exactly one of ``one`` and a file, no folder of models, or an output that can't be written.
    """
    from assay.outputs import check_output

    if (getattr(arguments, one) is None) == (arguments.file is None):
        raise ValueError(f"give either one {one} in quotes, or --file FILE (- for standard input)")
    models = Path(arguments.models)
    if not models.is_dir():
        raise ValueError(f"no folder {models}: run dvc repro {stage}, or give the folder of models by --models")
    output = Path(arguments.output) if arguments.output else None
    check_output(output)
    return output


def tell(rows: pd.DataFrame, sentences: list[str], *, output: Path | None, from_file: bool, what: str) -> int:
    """Rows to the output, or to standard output as CSV, or as sentences for one input alone; the exit status."""
    from assay.tables import write_rows

    errors = int((rows["status"] == "error").sum())
    if output is not None:
        write_rows(rows, output)
    elif from_file:
        rows.to_csv(sys.stdout, index=False, lineterminator="\n")
    else:
        print("\n".join(sentences))
    if from_file:
        print(f"{len(rows)} {what}, {errors} error(s)" + (f", in {output}" if output else ""), file=sys.stderr)
    return 3 if errors else 0


def given_rows(arguments: argparse.Namespace, one: str, *, optional: tuple[str, ...] = ()) -> pd.DataFrame:
    """Column text, and ``optional`` ones, of the one input or of the file."""
    import pandas as pd

    from assay.tables import read_inputs

    if arguments.file is None:
        return pd.DataFrame({"text": [getattr(arguments, one)]} | dict.fromkeys(optional), dtype=object)
    return read_inputs(None if arguments.file == "-" else Path(arguments.file), optional=optional)


def counts(arguments: argparse.Namespace) -> int:
    """How many thinking units will a question cost? One row per question; exit status 3 if some could not be used."""
    output = check_given(arguments, one="question", stage="evaluate_counts")
    from assay.counts.answer import answer, open_predictor, sentences
    from assay.torch_runtime import set_up_torch

    set_up_torch(threads=arguments.threads)
    questions = given_rows(arguments, "question", optional=("setting",))
    models = Path(arguments.models)
    predictor = open_predictor(models, wanted=arguments.variant, purpose=arguments.purpose, device=arguments.device)
    rows = answer(predictor, questions, setting=arguments.setting)
    from_file, what = arguments.file is not None, f"question(s) by {predictor.name}"
    return tell(rows, sentences(rows, variant=predictor.name), output=output, from_file=from_file, what=what)


def text(arguments: argparse.Namespace) -> int:
    """Which class is this text? One row per text; exit status 3 if some could not be used."""
    output = check_given(arguments, one="text", stage="train_text")
    from assay.text.prediction import load_predictor, sentences
    from assay.torch_runtime import pick_device, set_up_torch

    set_up_torch(threads=arguments.threads)
    texts = given_rows(arguments, "text")["text"].tolist()
    predictor = load_predictor(Path(arguments.models), device=pick_device(arguments.device).type)
    rows = predictor.batch_predict(texts, long=arguments.long)
    said = sentences(rows, classes=predictor.classes)
    return tell(rows, said, output=output, from_file=arguments.file is not None, what="text(s)")


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


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="assay",
        description="Beside dvc, which builds: assay predicts, checks and reports.",
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
    five = commands.add_parser(
        "predict",
        help="real or forged? files, folders, globs or a list",
        description=predict.__doc__,
        epilog="Exit status: 0 all judged, 3 some inputs are rows with status error, 2 nothing could be done. "
        "A name with a leading dash: write ./-name, or -- before the names.",
    )
    five.add_argument(
        "paths", nargs="+", metavar="PATH", help="a picture, a folder, a glob, or - for a list on standard input"
    )
    five.add_argument("--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet (CSV on standard output)")
    five.add_argument("--models", default="models", help="folder of trained models (%(default)s)")
    five.add_argument("--batch-size", type=positive, default=64, help="pictures at a time (%(default)s)")
    five.add_argument("--recursive", "-r", action="store_true", help="folders with their subfolders; ** in globs")
    five.add_argument("--null", "-0", action="store_true", help="names in the list end in NUL (find -print0)")
    five.add_argument("--device", choices=("cpu", "auto"), default="auto", help="%(default)s")
    five.add_argument("--threads", type=positive, default=usable_cpus(), help="of decoding and torch (%(default)s)")
    five.set_defaults(run=predict)
    six = commands.add_parser(
        "counts",
        help="how many thinking units will a question cost?",
        description=counts.__doc__,
        epilog="Exit status: 0 all answered, 3 some questions are rows with status error, 2 nothing could be done.",
    )
    six.add_argument("question", nargs="?", help="one question, in quotes")
    six.add_argument(
        "--file", metavar="FILE", help=".csv, .jsonl or .parquet with a column text; else a line each; - stdin"
    )
    six.add_argument("--setting", help='what produces the answer, say "GPT-4, 0-Shot", as in training')
    six.add_argument("--variant", help="say regression or quantile (the one evaluate_counts chose)")
    six.add_argument("--for", dest="purpose", choices=("count", "bin"), default="count", help="choose the best for it")
    six.add_argument("--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet (CSV on standard output)")
    six.add_argument("--models", default="models/counts", help="folder of trained variants (%(default)s)")
    six.add_argument("--device", choices=("cpu", "auto"), default="auto", help="%(default)s")
    six.add_argument("--threads", type=positive, default=usable_cpus(), help="of torch (%(default)s)")
    six.set_defaults(run=counts)
    seven = commands.add_parser(
        "text",
        help="which class is this text?",
        description=text.__doc__,
        epilog="Exit status: 0 all judged, 3 some texts are rows with status error, 2 nothing could be done.",
    )
    seven.add_argument("text", nargs="?", help="one text, in quotes")
    seven.add_argument(
        "--file", metavar="FILE", help=".csv, .jsonl or .parquet with a column text; else a line each; - stdin"
    )
    seven.add_argument(
        "--long",
        choices=("truncate", "window"),
        default="truncate",
        help="texts beyond train_text.max_tokens: cut, or judged in overlapping windows (%(default)s)",
    )
    seven.add_argument("--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet (CSV on standard output)")
    seven.add_argument("--models", default="models/text/classifier", help="folder of the classifier (%(default)s)")
    seven.add_argument("--device", choices=("cpu", "auto"), default="auto", help="%(default)s")
    seven.add_argument("--threads", type=positive, default=usable_cpus(), help="of torch (%(default)s)")
    seven.set_defaults(run=text)
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

"""``assay predict``, ``counts``, ``text`` and ``corridor``: the commands that use trained models."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from assay.data.image_inputs import Input

PICTURES_EPILOG = (
    "Exit status: 0 all judged, 3 some inputs are rows with status error, 2 nothing could be done. "
    "A name with a leading dash: write ./-name, or -- before the names."
)


def predict(arguments: argparse.Namespace) -> int:
    """Judge pictures: one row per input; exit status 3 if some input could not be used."""
    output = check_models(arguments, "cascade/cascade.json", stage="evaluate_cascade")
    from assay.images.cascade.predict import COLUMNS, NUMBERS, open_cascade, predict_paths

    inputs = picture_inputs(arguments)
    cascade = open_cascade(Path(arguments.models), device=arguments.device)
    rows = predict_paths(cascade, inputs, batch_size=arguments.batch_size, decode_threads=arguments.threads)
    return put_rows(rows, output, command="predict", columns=COLUMNS, numbers=NUMBERS)


def corridor(arguments: argparse.Namespace) -> int:
    """How dangerous is this corridor? One row per picture; exit status 3 if some could not be used."""
    output = check_models(arguments, "fusion.json", stage="vlm_predict")
    from assay.data.image_inputs import is_one_file, standard_output
    from assay.vlm.command import TEXTS, judge, numbers, open_corridor, sentence

    inputs = picture_inputs(arguments)
    # What a library tells its own users of its next version.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")
    how = {"batch_size": arguments.batch_size, "max_pixels": arguments.max_pixels}
    predictor = open_corridor(Path(arguments.models), device=arguments.device, **how)
    rows = judge(predictor, inputs, threads=arguments.threads, **how)
    if output is None and is_one_file(arguments.paths):
        (row,) = rows
        with standard_output() as stream:
            print(sentence(row, predictor), file=stream)
        return 3 if row["status"] == "error" else 0
    measured = numbers(predictor)
    return put_rows(rows, output, command="corridor", columns=[*TEXTS, *measured], numbers=measured)


def check_models(arguments: argparse.Namespace, record: str, *, stage: str) -> Path | None:
    """What can be told of ``--models`` and ``--output`` before seconds of imports; returns the output file, if any.

    Raises:
        ValueError: the folder of models has no file ``record``, or the output can't be written.
    """
    from assay.data.outputs import check_output

    path = Path(arguments.models) / record
    if not path.is_file():
        raise ValueError(f"no {path}: run dvc repro {stage}, or give the folder of models by --models")
    output = Path(arguments.output) if arguments.output else None
    check_output(output)
    return output


def picture_inputs(arguments: argparse.Namespace) -> Iterator[Input]:
    """The pictures that the arguments name; torch, warnings and signals are set up for the work on them."""
    from assay.core.torch_setup import set_up_torch
    from assay.data.image_inputs import expand

    set_up_torch(threads=arguments.threads)
    # A damaged file is a row; what PIL warns of on the way would only run through the progress bar.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stdin = sys.stdin.buffer if sys.stdin else None
    return expand(arguments.paths, recursive=arguments.recursive, stdin=stdin, null=arguments.null)


def put_rows(
    rows: Iterable[dict[str, Any]],
    output: Path | None,
    *,
    command: str,
    columns: Sequence[str],
    numbers: Sequence[str],
) -> int:
    """Rows to the output or to standard output, with a summary; the exit status."""
    from assay.data.image_inputs import write_rows

    try:
        count, errors = write_rows(rows, output, columns=columns, numbers=numbers)
    except BrokenPipeError:  # the reader, say head, has seen enough
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print(f"assay {command}: interrupted" + (f"; {output} is not written" if output else ""), file=sys.stderr)
        return 128 + signal.SIGINT
    print(f"{count} input(s), {errors} error(s)" + (f", in {output}" if output else ""), file=sys.stderr)
    return 3 if errors else 0


def check_given(arguments: argparse.Namespace, *, one: str, stage: str) -> Path | None:
    """What can be told before seconds of imports; returns the output file, if any.

    Raises:
        ValueError: not exactly one of ``one`` and a file, no folder of models, or an output that can't be written.
    """
    from assay.data.outputs import check_output

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
    from assay.data.tables import write_rows

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

    from assay.data.tables import read_inputs

    if arguments.file is None:
        return pd.DataFrame({"text": [getattr(arguments, one)]} | dict.fromkeys(optional), dtype=object)
    return read_inputs(None if arguments.file == "-" else Path(arguments.file), optional=optional)


def counts(arguments: argparse.Namespace) -> int:
    """How many thinking units will a question cost? One row per question; exit status 3 if some could not be used."""
    output = check_given(arguments, one="question", stage="evaluate_counts")
    from assay.core.torch_setup import set_up_torch
    from assay.counts.answer import answer, open_predictor, sentences

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
    from assay.core.torch_setup import pick_device, set_up_torch
    from assay.text.prediction import load_predictor, sentences

    set_up_torch(threads=arguments.threads)
    texts = given_rows(arguments, "text")["text"].tolist()
    predictor = load_predictor(Path(arguments.models), device=pick_device(arguments.device).type)
    rows = predictor.batch_predict(texts, long=arguments.long)
    said = sentences(rows, classes=predictor.classes)
    return tell(rows, said, output=output, from_file=arguments.file is not None, what="text(s)")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_picture_arguments(parser: argparse.ArgumentParser, *, models: str, batch_size: int) -> None:
    """What a command takes that judges pictures."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a picture, a folder, a glob, or - for a list on standard input"
    )
    parser.add_argument("--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet (CSV on standard output)")
    parser.add_argument("--models", default=models, help="folder of trained models (%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=batch_size, help="pictures at a time (%(default)s)")
    parser.add_argument("--recursive", "-r", action="store_true", help="folders with their subfolders; ** in globs")
    parser.add_argument("--null", "-0", action="store_true", help="names in the list end in NUL (find -print0)")
    parser.add_argument("--device", choices=("cpu", "auto"), default="auto", help="%(default)s")
    parser.add_argument("--threads", type=positive, default=usable_cpus(), help="of decoding and torch (%(default)s)")


def add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands of this module, for the parser of ``assay``."""
    one = commands.add_parser(
        "predict",
        help="real or forged? files, folders, globs or a list",
        description=predict.__doc__,
        epilog=PICTURES_EPILOG,
    )
    add_picture_arguments(one, models="models", batch_size=64)
    one.set_defaults(run=predict)
    two = commands.add_parser(
        "counts",
        help="how many thinking units will a question cost?",
        description=counts.__doc__,
        epilog="Exit status: 0 all answered, 3 some questions are rows with status error, 2 nothing could be done.",
    )
    two.add_argument("question", nargs="?", help="one question, in quotes")
    two.add_argument(
        "--file", metavar="FILE", help=".csv, .jsonl or .parquet with a column text; else a line each; - stdin"
    )
    two.add_argument("--setting", help='what produces the answer, say "GPT-4, 0-Shot", as in training')
    two.add_argument("--variant", help="say regression or quantile (the one evaluate_counts chose)")
    two.add_argument("--for", dest="purpose", choices=("count", "bin"), default="count", help="choose the best for it")
    two.add_argument("--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet (CSV on standard output)")
    two.add_argument("--models", default="models/counts", help="folder of trained variants (%(default)s)")
    two.add_argument("--device", choices=("cpu", "auto"), default="auto", help="%(default)s")
    two.add_argument("--threads", type=positive, default=usable_cpus(), help="of torch (%(default)s)")
    two.set_defaults(run=counts)
    three = commands.add_parser(
        "text",
        help="which class is this text?",
        description=text.__doc__,
        epilog="Exit status: 0 all judged, 3 some texts are rows with status error, 2 nothing could be done.",
    )
    three.add_argument("text", nargs="?", help="one text, in quotes")
    three.add_argument(
        "--file", metavar="FILE", help=".csv, .jsonl or .parquet with a column text; else a line each; - stdin"
    )
    three.add_argument(
        "--long",
        choices=("truncate", "window"),
        default="truncate",
        help="texts beyond train_text.max_tokens: cut, or judged in overlapping windows (%(default)s)",
    )
    three.add_argument("--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet (CSV on standard output)")
    three.add_argument("--models", default="models/text/classifier", help="folder of the classifier (%(default)s)")
    three.add_argument("--device", choices=("cpu", "auto"), default="auto", help="%(default)s")
    three.add_argument("--threads", type=positive, default=usable_cpus(), help="of torch (%(default)s)")
    three.set_defaults(run=text)
    four = commands.add_parser(
        "corridor",
        help="how dangerous is this corridor? pictures, as for predict",
        description=corridor.__doc__,
        epilog=PICTURES_EPILOG,
    )
    add_picture_arguments(four, models="models/vlm", batch_size=16)
    four.add_argument("--max-pixels", type=positive, default=50_000_000, help="of a picture (%(default)s)")
    four.set_defaults(run=corridor)

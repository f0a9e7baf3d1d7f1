"""``assay predict``, ``counts``, ``text`` and ``corridor``: the commands that use trained models."""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pandas as pd

    from assay.core.parallel import Workers
    from assay.data.image_inputs import Input

Found = TypeVar("Found")
Commands = argparse._SubParsersAction


def predict(arguments: argparse.Namespace) -> int:
    """Judge images: one row per input; exit status 3 if some input could not be used."""
    output = check_paths(arguments, stage="evaluate_cascade", record="cascade/cascade.json")
    check_safe_csv(arguments, sentence=False)
    from assay.images.cascade.reading import limit_of, read_square

    # Before the networks' libraries, so that both are imported at the same time.
    with image_readers(read_square, arguments, max_pixels=limit_of(Path(arguments.models))) as readers:
        from assay.images.cascade.model import load
        from assay.images.cascade.predict import COLUMNS, NUMBERS, predict_paths

        inputs, left = image_inputs(arguments)
        cascade = load(arguments.models, device=arguments.device, verify=arguments.verify)
        if arguments.explain:
            print(*cascade.explanation, sep="\n", file=sys.stderr)
        options = {"batch_size": arguments.batch_size, "max_bytes": arguments.max_bytes}
        rows = predict_paths(cascade, inputs, readers=readers, **options)
        warnings_of: Counter[str] = Counter()
        rows = warned(rows, warnings_of)
        status = put_rows(
            rows, output, left, command="predict", columns=COLUMNS, numbers=NUMBERS, safe_csv=arguments.safe_csv
        )
    for warning, count in warnings_of.items():
        print(f"{count} with the warning {warning}: their verdicts mean little (docs/limits.md)", file=sys.stderr)
    return status


def corridor(arguments: argparse.Namespace) -> int:
    """How dangerous is this corridor? One row per image; exit status 3 if some could not be used."""
    output = check_paths(arguments, stage="vlm_predict", record="fusion.json")
    from assay.data.image_inputs import is_one_file, standard_output

    one = is_one_file(arguments.paths)
    check_safe_csv(arguments, sentence=one)
    from assay.vlm.reading import read_image

    with image_readers(read_image, arguments, max_pixels=arguments.max_pixels) as readers:
        from assay.vlm.command import TEXTS, judge, numbers, open_corridor, sentence

        inputs, left = image_inputs(arguments)
        # What a library tells its own users of its next version.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")
        options = {"batch_size": arguments.batch_size, "max_pixels": arguments.max_pixels}
        predictor = open_corridor(Path(arguments.models), device=arguments.device, verify=arguments.verify, **options)
        rows = judge(predictor, inputs, readers=readers, max_bytes=arguments.max_bytes, **options)
        if output is None and one:
            (row,) = rows
            with standard_output() as stream:
                print(sentence(row, predictor), file=stream)
            return 3 if row["status"] == "error" else 0
        measured = numbers(predictor)
        columns, safe = [*TEXTS, *measured], arguments.safe_csv
        return put_rows(rows, output, left, command="corridor", columns=columns, numbers=measured, safe_csv=safe)


def counts(arguments: argparse.Namespace) -> int:
    """How many thinking units will a question cost? One row per question; exit status 3 if some could not be used."""
    check_one_input(arguments, "question")
    output = check_paths(arguments, stage="evaluate_counts")
    check_safe_csv(arguments, sentence=arguments.file is None)
    from assay.core.torch_setup import set_up_torch
    from assay.counts.answer import answer, open_predictor, sentences

    set_up_torch(threads=arguments.threads)
    questions = read_texts(arguments, "question", optional=("setting",))
    models = Path(arguments.models)
    options = {"wanted": arguments.variant, "purpose": arguments.purpose}
    predictor = open_predictor(models, **options, device=arguments.device, verify=arguments.verify)
    rows = with_reasons(answer(predictor, questions, setting=arguments.setting), questions)
    level = predictor.intervals.level if predictor.intervals else 0.0
    told = sentences(rows, variant=predictor.name, level=level)
    return tell(rows, told, arguments, output=output, name=f"question(s) by {predictor.name}")


def text(arguments: argparse.Namespace) -> int:
    """Which class is this text? One row per text; exit status 3 if some could not be used."""
    check_one_input(arguments, "text")
    output = check_paths(arguments, stage="pool_text", record="ensemble.json")
    check_safe_csv(arguments, sentence=arguments.file is None)
    from assay.core.torch_setup import pick_device, set_up_torch
    from assay.text.command import open_classifier
    from assay.text.prediction import sentences

    set_up_torch(threads=arguments.threads)
    texts = read_texts(arguments, "text")
    device = pick_device(arguments.device).type
    predictor = open_classifier(Path(arguments.models), device=device, verify=arguments.verify)
    rows = with_reasons(predictor.batch_predict(texts["text"].tolist(), long=arguments.long), texts)
    return tell(rows, sentences(rows, classes=predictor.classes), arguments, output=output, name="text(s)")


def warned(rows: Iterable[dict[str, Any]], found: Counter[str]) -> Iterator[dict[str, Any]]:
    """The same rows, their warnings counted on the way."""
    for row in rows:
        if row["warning"]:
            found[row["warning"]] += 1
        yield row


def check_paths(arguments: argparse.Namespace, *, stage: str, record: str | None = None) -> Path | None:
    """What can be told of ``--models`` and ``--output`` before seconds of imports; returns the output file, if any.

    Raises:
        ValueError: no folder of models, or none that holds the file ``record``; or the output can't be written.
    """
    from assay.data.outputs import check_output

    folder = Path(arguments.models)
    if not (folder.is_dir() if record is None else (folder / record).is_file()):
        missing = f"folder {folder}" if record is None else str(folder / record)
        raise ValueError(f"no {missing}: run dvc repro {stage}, or give the folder of models by --models")
    output = Path(arguments.output) if arguments.output else None
    check_output(output)
    return output


def check_safe_csv(arguments: argparse.Namespace, *, sentence: bool) -> None:
    """Raise a ValueError for --safe-csv where no CSV is written; ``sentence``: without an output there is a sentence."""
    output = arguments.output
    if arguments.safe_csv and (not output.lower().endswith(".csv") if output else sentence):
        raise ValueError(
            "--safe-csv says how CSV is written, and none is here: name a .csv by --output, or leave it out"
        )


def image_inputs(arguments: argparse.Namespace) -> tuple[Iterator[Input], Counter[str]]:
    """The images that the arguments name, and what folders among them hold besides, counted on the way.

    Torch and warnings are set up for the work on them.
    """
    from assay.core.torch_setup import set_up_torch
    from assay.data.image_inputs import expand

    set_up_torch(threads=arguments.threads)
    # A damaged file is a row; what PIL warns of on the way would only run through the progress bar.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    stdin = sys.stdin.buffer if sys.stdin else None
    left: Counter[str] = Counter()
    inputs = expand(arguments.paths, recursive=arguments.recursive, stdin=stdin, null=arguments.null, left=left)
    # One is asked for now: a list that can't be read is refused before models are opened and a header is printed.
    return chain(list(islice(inputs, 1)), inputs), left


def image_readers(function: Callable[..., Found], arguments: argparse.Namespace, *, max_pixels: int) -> Workers[Found]:
    """Processes that decode the images by ``function``; one of them has begun to import what that needs."""
    from assay.data.decoders import decoders

    readers = decoders(function, count=arguments.threads, max_pixels=max_pixels, seconds=arguments.max_seconds)
    readers.start()
    return readers


def put_rows(
    rows: Iterable[dict[str, Any]],
    output: Path | None,
    left: Counter[str],
    *,
    command: str,
    columns: Sequence[str],
    numbers: Sequence[str],
    safe_csv: bool,
) -> int:
    """Rows of images to the output or to standard output, with a summary that names what is ``left``; the exit status."""
    from assay.data.image_inputs import left_sentence, write_rows

    try:
        count, errors = write_rows(rows, output, columns=columns, numbers=numbers, safe_csv=safe_csv)
    except BrokenPipeError:  # the reader, say head, has seen enough
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print(f"assay {command}: interrupted" + (f"; {output} is not written" if output else ""), file=sys.stderr)
        return 128 + signal.SIGINT
    print_summary(count, errors, output, name="input(s)")
    if left:
        print(left_sentence(left), file=sys.stderr)
    return 3 if errors else 0


def print_summary(count: int, errors: int, output: Path | None, *, name: str) -> None:
    """How many rows there are and where, on standard error."""
    print(f"{count} {name}, {errors} error(s)" + (f", in {output}" if output else ""), file=sys.stderr)


def check_one_input(arguments: argparse.Namespace, one: str) -> None:
    """Raise a ValueError unless exactly one of ``one`` and a file is there."""
    if (getattr(arguments, one) is None) == (arguments.file is None):
        raise ValueError(f"give either one {one} in quotes, or --file FILE (- for standard input)")


def read_texts(arguments: argparse.Namespace, one: str, *, optional: tuple[str, ...] = ()) -> pd.DataFrame:
    """Column text, and ``optional`` ones, of the one input or of the file."""
    import pandas as pd

    from assay.data.tables import read_inputs

    if arguments.file is None:
        return pd.DataFrame({"text": [getattr(arguments, one)]} | dict.fromkeys(optional), dtype=object)
    limits = {"max_bytes": arguments.max_bytes, "max_characters": arguments.max_characters}
    return read_inputs(None if arguments.file == "-" else Path(arguments.file), optional=optional, **limits)


def with_reasons(rows: pd.DataFrame, texts: pd.DataFrame) -> pd.DataFrame:
    """Rows of texts, those that the file itself made impossible to read with the reason for that."""
    from assay.data.tables import UNREADABLE

    return rows.assign(reason=texts[UNREADABLE].fillna(rows["reason"])) if UNREADABLE in texts else rows


def tell(
    rows: pd.DataFrame, sentences: list[str], arguments: argparse.Namespace, *, output: Path | None, name: str
) -> int:
    """Rows of texts to the output, or to standard output as CSV, or as sentences for one text alone; the exit status."""
    from assay.data.outputs import plain_cell
    from assay.data.tables import write_rows

    if arguments.safe_csv:
        rows = rows.map(plain_cell)
    errors = int((rows["status"] == "error").sum())
    if output is not None:
        write_rows(rows, output)
    elif arguments.file is not None:
        # pandas leaves a carriage return without quotes, which readers take for the end of a line.
        broken = any(rows[name].astype(str).str.contains("\r").any() for name in ("text", "reason"))
        rows.to_csv(
            sys.stdout, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if broken else csv.QUOTE_MINIMAL
        )
    else:
        print("\n".join(sentences))
    if arguments.file is not None:
        print_summary(len(rows), errors, output, name=name)
    return 3 if errors else 0


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_command(
    commands: Commands[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int], **options: Any
) -> argparse.ArgumentParser:
    """A command named as the function that runs it, and described by its docstring."""
    parser = commands.add_parser(run.__name__, description=run.__doc__, **options)
    parser.set_defaults(run=run)
    return parser


def add_image_arguments(parser: argparse.ArgumentParser, *, models: str, batch_size: int) -> None:
    """What a command takes that judges images."""
    paths = "an image, a folder, a glob, or - for a list on standard input"
    parser.add_argument("paths", nargs="+", metavar="PATH", help=paths)
    parser.add_argument("--batch-size", type=positive, default=batch_size, help="images at a time (%(default)s)")
    parser.add_argument("--recursive", "-r", action="store_true", help="folders with their subfolders; ** in globs")
    parser.add_argument("--null", "-0", action="store_true", help="names in the list end in NUL (find -print0)")
    parser.add_argument("--max-bytes", type=positive, default=2**28, help="of an image's file (%(default)s)")
    seconds = "of processor time to decode an image (%(default)s)"
    parser.add_argument("--max-seconds", type=positive, default=10, help=seconds)
    add_common_arguments(parser, models=models)


def add_text_arguments(parser: argparse.ArgumentParser, one: str, *, models: str) -> None:
    """What a command takes that reads one text, called ``one``, or a file of them."""
    parser.add_argument(one, nargs="?", help=f"one {one}, in quotes")
    file = ".csv, .tsv, .jsonl, .json or .parquet with a column text; else a line each; - stdin"
    parser.add_argument("--file", metavar="FILE", help=file)
    parser.add_argument("--max-bytes", type=positive, default=2**30, help="of the file (%(default)s)")
    longest = "of a text; longer ones are rows with status error (%(default)s)"
    parser.add_argument("--max-characters", type=positive, default=100_000, help=longest)
    add_common_arguments(parser, models=models)


def add_common_arguments(parser: argparse.ArgumentParser, *, models: str) -> None:
    """What every command takes that uses trained models."""
    parser.add_argument("--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet (CSV on standard output)")
    safe = "CSV for spreadsheets: ' before a cell that would be a formula there (=, +, -, @)"
    parser.add_argument("--safe-csv", action="store_true", help=safe)
    parser.add_argument("--models", default=models, help="folder of trained models (%(default)s)")
    verify = "open models whose files nothing vouches for: those of your own experiments (SHA256SUMS is not looked at)"
    parser.add_argument("--no-verify", action="store_false", dest="verify", help=verify)
    parser.add_argument("--device", choices=("cpu", "auto"), default="auto", help="%(default)s")
    parser.add_argument("--threads", type=positive, default=usable_cpus(), help="of torch and decoding (%(default)s)")


def add_model_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """The commands of this module, for the parser of ``assay``."""
    status = "Exit status: 0 all {}, 3 some {} are rows with status error, 2 nothing could be done."
    images = status.format("judged", "inputs") + " A name with a leading dash: write ./-name, or -- before the names."

    one = add_command(commands, predict, help="real or forged? files, folders, globs or a list", epilog=images)
    add_image_arguments(one, models="models", batch_size=64)
    one.add_argument("--explain", action="store_true", help="say what leaks at both exits, as certified or observed")

    epilog = status.format("answered", "questions")
    two = add_command(commands, counts, help="how many thinking units will a question cost?", epilog=epilog)
    add_text_arguments(two, "question", models="models/counts")
    two.add_argument("--setting", help='what produces the answer, say "GPT-4, 0-Shot", as in training')
    two.add_argument("--variant", help="say regression or quantile (the one evaluate_counts chose)")
    two.add_argument("--for", dest="purpose", choices=("count", "bin"), default="count", help="choose the best for it")

    epilog = status.format("judged", "texts")
    three = add_command(commands, text, help="which class is this text?", epilog=epilog)
    add_text_arguments(three, "text", models="models/text/classifier")
    ways = "texts beyond train_text.max_tokens: cut, or judged in overlapping windows (%(default)s)"
    three.add_argument("--long", choices=("truncate", "window"), default="truncate", help=ways)

    four = add_command(commands, corridor, help="how dangerous is this corridor? images, as for predict", epilog=images)
    add_image_arguments(four, models="models/vlm", batch_size=16)
    four.add_argument("--max-pixels", type=positive, default=50_000_000, help="of an image (%(default)s)")

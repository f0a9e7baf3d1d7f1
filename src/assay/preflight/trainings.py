"""The trainings of every line as trials: what each reads, how it is shortened, and how much a whole one visits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from assay.core.io import write_parquet
from assay.images.model import FILTERS
from assay.images.stacking import EXPERTS
from assay.params.counts import Counts, LlmLora, Staged
from assay.params.stacking import Stacking
from assay.params.text import Text
from assay.params.vlm import Vlm
from assay.preflight.trials import Content, Trial

PROCESSED = Path("data/processed")
TEXT_ROWS = "data/text/rows"


def images_rows(root: Path) -> dict[str, pd.DataFrame]:
    """The prepared manifests of train and val, and the fold table."""
    names = {"train": "train_manifest.csv", "val": "val_manifest.csv", "folds": "folds.csv"}
    text = {"sample_id": str, "group_id": str}
    return {name: pd.read_csv(root / PROCESSED / file, dtype=text) for name, file in names.items()}


def both_classes(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """So many rows, at least two, of both labels in turn; rows come again where there are too few."""
    turn = frame.assign(turn=frame.groupby("label").cumcount()).sort_values(["turn", "label"], kind="stable")
    wanted = [number % len(turn) for number in range(max(2, count))]
    return turn.drop(columns="turn").iloc[wanted]


def cut_images(
    content: Content, scratch: Path, rows: int, *, tables: dict[str, pd.DataFrame], path: tuple[str, ...]
) -> None:
    """One epoch over so many rows, and over as large a share of val."""
    train, val, folds = (tables[name] for name in ("train", "val", "folds"))
    short = both_classes(train, rows)
    (scratch / PROCESSED).mkdir(parents=True, exist_ok=True)
    short.to_csv(scratch / PROCESSED / "train_manifest.csv", index=False)
    both_classes(val, round(rows * len(val) / len(train))).to_csv(scratch / PROCESSED / "val_manifest.csv", index=False)
    folds[folds["sample_id"].isin(short["sample_id"])].to_csv(scratch / PROCESSED / "folds.csv", index=False)
    section(content, path).update(epochs=1, warmup_epochs=0)


def section(content: Content, path: tuple[str, ...]) -> dict[str, Any]:
    """The part of params.yaml under these keys."""
    for key in path:
        content = content[key]
    return content


def images_trials(params: Stacking, root: Path) -> list[Trial]:
    """Stage 1 for both filters, and each expert for its refit and all folds."""
    tables = images_rows(root)
    count, settings = len(tables["train"]), params.train_stage1
    pixels = (PROCESSED / "pixels").as_posix()
    found = [
        Trial(
            stage="train_stage1",
            command=("train_stage1",),
            rows=count * settings.epochs,
            batch=settings.batch_size,
            links=("data/weights/stage1.safetensors", pixels),
            cut=partial(cut_images, tables=tables, path=("train_stage1",)),
            output="models/filters/plain",
            stands_for=dict.fromkeys(FILTERS.values(), float(count * settings.epochs)),
        )
    ]
    sizes = {"full": count}
    sizes |= {
        f"fold_{fold}": count - held for fold, held in tables["folds"]["fold"].value_counts().sort_index().items()
    }
    for name in EXPERTS:
        expert = params.expert(name)
        stands_for = {f"train_expert@{name}-{subset}": float(size * expert.epochs) for subset, size in sizes.items()}
        found.append(
            Trial(
                stage=f"train_expert@{name}-full",
                command=("train_expert", "--expert", name, "--subset", "full"),
                rows=count * expert.epochs,
                batch=expert.batch_size,
                links=(f"data/weights/{name}.safetensors", pixels),
                cut=partial(cut_images, tables=tables, path=("train_expert", name)),
                output=f"models/experts/{name}/full",
                stands_for=stands_for,
                first=("init_expert", "--expert", name),
            )
        )
    return found


def cut_epochs(content: Content, scratch: Path, rows: int, *, path: tuple[str, ...], count: int, share: float) -> None:
    """A part of an epoch: so many visits of ``count`` rows; ``share`` of them with the head alone."""
    part = section(content, path)
    part["epochs"] = max(rows * (1 - share) / count, 1e-6)
    if "head_epochs" in part:
        part["head_epochs"] = max(rows * share / count, 1e-6)


def counts_trials(params: Counts, root: Path) -> list[Trial]:
    """Variants of the same network, batch and length are one trial."""
    count = len(pd.read_parquet(root / "data/counts/rows/train.parquet", columns=["group"]))
    alike: dict[tuple[Any, ...], dict[str, float]] = {}
    for name in type(params.train_counts).model_fields:
        settings = params.variant(name)
        names = ("frozen_layers", "batch_size", "gradient_accumulation", "max_tokens", "mixed_precision")
        key = (isinstance(settings, LlmLora), *(getattr(settings, one, None) for one in names))
        visits = count * (settings.epochs + (settings.head_epochs if isinstance(settings, Staged) else 0))
        alike.setdefault(key, {})[f"train_counts@{name}"] = visits
    found = []
    for stands_for in alike.values():
        stage, visits = max(stands_for.items(), key=lambda item: item[1])
        name = stage.partition("@")[2]
        settings = params.variant(name)
        share = settings.head_epochs / (settings.head_epochs + settings.epochs) if isinstance(settings, Staged) else 0.0
        base = "data/counts/causal_lm" if isinstance(settings, LlmLora) else "data/counts/encoder"
        found.append(
            Trial(
                stage=stage,
                command=("train_counts", "--variant", name),
                rows=visits,
                batch=settings.batch_size * settings.gradient_accumulation,
                links=(base, "data/counts/rows"),
                cut=partial(cut_epochs, path=("train_counts", name), count=count, share=share),
                output=f"models/counts/{name}",
                stands_for=stands_for,
            )
        )
    return found


def cut_texts(content: Content, scratch: Path, rows: int, *, frame: pd.DataFrame) -> None:
    """One epoch over so many rows: what frozen layers take grows with the texts, not with the epochs."""
    write_parquet(scratch / TEXT_ROWS / "train.parquet", both_classes(frame, rows))
    section(content, ("train_text", "pretrained"))["epochs"] = 1


def text_trials(params: Text, root: Path) -> list[Trial]:
    """Pretraining; the own network, for the taught one too, on the encoder that this leaves; and the pretrained one, last,
    since it leaves shorter inputs."""
    frame = pd.read_parquet(root / TEXT_ROWS / "train.parquet")
    pretraining, tuning, count = params.pretrain_text, params.train_text, len(frame)
    rows = tuple(
        f"{TEXT_ROWS}/{name}" for name in ("train.parquet", "augmented.parquet", "val.parquet", "classes.json")
    )
    own = partial(cut_epochs, path=("train_text", "own"), count=count, share=0.0)
    found = [
        Trial(
            stage="pretrain_text",
            command=("pretrain_text",),
            rows=count * pretraining.epochs,
            batch=pretraining.batch_size,
            links=("data/text/source", *rows),
            cut=partial(cut_epochs, path=("pretrain_text",), count=count, share=0.0),
            output="models/text/encoder",
        )
    ]
    starts = {
        "own": ("models/text/encoder", own),
        "pretrained": ("data/text/pretrained", partial(cut_texts, frame=frame)),
    }
    for name, (start, cut) in starts.items():
        settings = params.network(name)
        taught = {"train_text@distilled": count * tuning.distilled.epochs} if name == "own" else {}
        found.append(
            Trial(
                stage=f"train_text@{name}",
                command=("train_text", "--network", name),
                rows=count * settings.epochs,
                batch=settings.batch_size,
                links=(start, *rows),
                cut=cut,
                output=f"models/text/networks/{name}",
                stands_for={f"train_text@{name}": count * settings.epochs} | taught,
            )
        )
    return found


def lines_of(path: Path) -> int:
    """Lines of a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def cut_second(content: Content, scratch: Path, rows: int, **options: Any) -> None:
    """As `cut_epochs`, for a second model that learns without the mistakes of a first one, which no trial has trained."""
    for network in content["vlm_high_risk_networks"].values():
        network.update(mistakes=False)
    cut_epochs(content, scratch, rows, **options)


def vlm_trials(params: Vlm, root: Path) -> list[Trial]:
    """Pretraining where there is one, the first model for all of its networks, and the second."""
    rows = root / "data/vlm/rows"
    read = ("data/vlm/source", "data/vlm/rows")
    base = "models/vlm/pretrained"
    found = []
    if params.pretrain_vlm.base == "config":
        count = lines_of(rows / "captions.jsonl")
        found.append(
            Trial(
                stage="pretrain_vlm",
                command=("pretrain_vlm",),
                rows=count * params.pretrain_vlm.epochs,
                batch=params.pretrain_vlm.batch_size,
                links=read,
                cut=partial(cut_epochs, path=("pretrain_vlm",), count=count, share=0.0),
                output=base,
            )
        )
    count = lines_of(rows / "train.jsonl")
    name = next(name for name, file in params.vlm_networks.items() if file == "rows/train.jsonl")
    first, second = params.vlm_networks, params.vlm_high_risk_networks
    # Of the folds each leaves one out.
    shares = {one: 1 - 1 / len(params.folds) if one in params.folds else 1.0 for one in first}
    for stage, one, settings, output, visited, cut in (
        ("vlm_sft", name, params.vlm_sft, "models/vlm/sft", shares, cut_epochs),
        (
            "vlm_sft_high_risk",
            next(iter(second)),
            params.vlm_sft_high_risk,
            "models/vlm/high_risk",
            dict.fromkeys(second, 1.0),
            cut_second,
        ),
    ):
        visits = count * settings.epochs
        found.append(
            Trial(
                stage=f"{stage}@{one}",
                command=(stage, "--network", one),
                rows=visits,
                batch=settings.batch_size * settings.gradient_accumulation,
                links=(*read, base),
                cut=partial(cut, path=(stage,), count=count, share=0.0),
                output=f"{output}/{one}",
                stands_for={f"{stage}@{other}": share * visits for other, share in visited.items()},
            )
        )
    return found

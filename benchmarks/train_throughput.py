"""How fast stage 1 trains, against timm's own loader and a plain training step, and what decoding once is worth.

    python benchmarks/train_throughput.py
    python benchmarks/train_throughput.py --images 2000 --repeats 7 --threads 4

Measured, on a CPU in one process, the same network, batch size and pictures, one after the other in turn:

- assay: ``Loop.train_epoch`` as the stage runs it: pixel store, augmentation, AdamW, deterministic kernels, and the
  epoch's AUC, accuracy and F1;
- timm: ``create_loader`` over the JPEG files with its transform factory (flip, colour jitter and blur at the same
  strength and probability; a resized crop in place of our affine and JPEG steps), ``BinaryCrossEntropy``,
  ``create_optimizer_v2`` and a plain step; memory layout as ``create_model`` gives it;
- timm, channels last: the same with the network and its input in that layout (timm's --channels-last).

Then, without a network: a batch of pixels from the store, against decoding its files with ``decode_rgb`` and with PIL.
Not measured: accuracy, validation, checkpoints, loader processes, half precision, a GPU.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from timm.data import ImageDataset, create_loader
from timm.loss import BinaryCrossEntropy
from timm.optim import create_optimizer_v2

from assay.core.params import load
from assay.core.torch_setup import set_up_torch
from assay.data.decode import decode_rgb
from assay.images.model.backbones import build
from assay.images.model.dataset import PictureSet
from assay.images.model.store import PixelStore, fit_square, open_store, open_writer
from assay.images.model.training import start
from assay.images.model.transforms import Normalize, train_transform
from assay.params.images import Images, Training

EMBEDDED = Path("data/forged")
SEED = 7


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=640, help="pictures in an epoch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each that count (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    parser.add_argument("--image-size", type=int, default=64, help="side the network sees (%(default)s)")
    parser.add_argument("--file-size", type=int, default=64, help="side of synthetic JPEG files (%(default)s)")
    parser.add_argument("--synthetic", action="store_true", help=f"do not use the pictures of {EMBEDDED}")
    parser.add_argument("--architecture", default="tf_efficientnet_lite0", help="(%(default)s)")
    return parser.parse_args()


def picture_folder(folder: Path, options: argparse.Namespace) -> list[Path]:
    """A folder per class with links to the embedded crops, or synthetic JPEG files; half real, half forged."""
    rng = np.random.default_rng(SEED)
    paths = []
    for name in ("real", "forged"):
        (folder / name).mkdir(parents=True)
        found = [] if options.synthetic else sorted((EMBEDDED / name).glob("*.jpg"))
        for number in range(options.images // 2):
            path = folder / name / f"{number:06}.jpg"
            if len(found) >= options.images // 2:
                path.symlink_to(found[number].resolve())
            else:
                small = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                side = (options.file_size, options.file_size)
                Image.fromarray(small).resize(side, Image.Resampling.BICUBIC).save(path, quality=90)
            paths.append(path)
    return paths


def fill_store(folder: Path, paths: list[Path], *, side: int) -> tuple[PixelStore, pd.DataFrame]:
    """The pixel store of these files, and its manifest."""
    ids = [str(number) for number in range(len(paths))]
    with open_writer(folder, side=side, sample_ids=ids) as writer:
        for path in paths:
            pixels = fit_square(decode_rgb(path, max_pixels=10**8), side, resize="squash")
            writer.append(pixels[None])
    labels = [int(path.parent.name == "forged") for path in paths]
    return open_store(folder), pd.DataFrame({"sample_id": ids, "label": labels})


def assay_epochs(store: PixelStore, manifest: pd.DataFrame, settings: Training) -> Callable[[], None]:
    """A function that trains one epoch with the loop of the stage."""
    size = settings.image_size
    transform = train_transform(settings.augment)
    model, config = build(settings.architecture, weights={}, image_size=size)
    train = PictureSet(store, manifest, image_size=size, transform=transform, seed=SEED)
    val = PictureSet(store, manifest, image_size=size)
    normalize = Normalize(config.mean, config.std)
    loop = start(model, train, val, settings=settings, normalize=normalize, seed=SEED, cpu=True)
    numbers = iter(range(1, 10**6))

    def epoch() -> None:
        torch.use_deterministic_algorithms(True)
        loop.train_epoch(next(numbers))

    return epoch


def timm_epochs(folder: Path, settings: Training, *, channels_last: bool) -> Callable[[], None]:
    """A function that trains one epoch with timm's loader, loss and optimizer."""
    augment = settings.augment
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model = timm.create_model(settings.architecture, num_classes=1).to(memory_format=memory_format)
    config = timm.data.resolve_model_data_config(model)
    loader = create_loader(
        ImageDataset(str(folder)),
        input_size=(3, settings.image_size, settings.image_size),
        batch_size=settings.batch_size,
        is_training=True,
        scale=((1 - augment.scale) ** 2, 1.0),
        ratio=(1 - augment.scale, 1 + augment.scale),
        hflip=augment.horizontal_flip,
        color_jitter=(augment.brightness, augment.contrast, augment.saturation, augment.hue),
        color_jitter_prob=augment.jitter_probability,
        gaussian_blur_prob=augment.blur_probability,
        auto_augment=None,
        interpolation="bilinear",
        mean=config["mean"],
        std=config["std"],
        num_workers=0,
        persistent_workers=False,
        device=torch.device("cpu"),
    )
    loss_of = BinaryCrossEntropy(smoothing=0.0)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=settings.lr, weight_decay=settings.weight_decay)

    def epoch() -> None:
        torch.use_deterministic_algorithms(False)
        model.train()
        for pictures, labels in loader:
            pictures = pictures.contiguous(memory_format=memory_format)
            loss = loss_of(model(pictures), labels.float().unsqueeze(1))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return epoch


def rates(systems: dict[str, Callable[[], None]], *, images: int, repeats: int) -> dict[str, list[float]]:
    """Images a second of every system, ``repeats`` times in turn, after one turn that does not count."""
    found: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(repeats + 1):
        for name, once in systems.items():
            begin = time.perf_counter()
            once()
            if turn > 0:
                found[name].append(images / (time.perf_counter() - begin))
    return found


def print_table(title: str, found: dict[str, list[float]]) -> None:
    """Median, range, and the first system's median as a multiple of each."""
    print(f"\n{title}\n{'':24}{'images/s':>10}{'lowest':>10}{'highest':>10}{'ratio':>8}")
    first = statistics.median(next(iter(found.values())))
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"{name:24}{middle:10.1f}{min(values):10.1f}{max(values):10.1f}{first / middle:8.2f}")


def reading(store: PixelStore, paths: list[Path], *, batch: int) -> dict[str, Callable[[], None]]:
    """Ways to get every picture once, in a shuffled order, as arrays."""
    order = np.random.default_rng(SEED).permutation(len(paths))
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]

    def each(read: Callable[[Path], np.ndarray]) -> Callable[[], None]:
        def once() -> None:
            for part in parts:
                for row in part:
                    fit_square(read(paths[row]), store.side, resize="squash")

        return once

    def from_store() -> None:
        for part in parts:
            store.pixels[part]

    def with_pil(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    return {
        "pixel store": from_store,
        "decode_rgb every epoch": each(lambda path: decode_rgb(path, max_pixels=10**8)),
        "PIL every epoch": each(with_pil),
    }


def main() -> None:
    options = parse_arguments()
    random.seed(SEED)
    torch.manual_seed(SEED)
    set_up_torch(threads=options.threads)
    changes = {"architecture": options.architecture, "image_size": options.image_size, "batch_size": 32}
    settings = load(Images).train_stage1.model_copy(update=changes | {"loader_workers": 0, "mixed_precision": "no"})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        paths = picture_folder(folder, options)
        store, manifest = fill_store(Path(scratch) / "store", paths, side=options.image_size)
        kind = "embedded crops" if paths[0].is_symlink() else f"synthetic, {options.file_size} px"
        print(
            f"{options.architecture}, {options.image_size} px, batch 32, {len(paths)} pictures ({kind}), "
            f"{options.threads} threads, torch {torch.__version__}, timm {timm.__version__}"
        )
        systems = {
            "assay": assay_epochs(store, manifest, settings),
            "timm": timm_epochs(folder, settings, channels_last=False),
            "timm, channels last": timm_epochs(folder, settings, channels_last=True),
        }
        found = rates(systems, images=len(paths), repeats=options.repeats)
        print_table(f"Training epoch (medians of {options.repeats}, in turn)", found)
        found = rates(reading(store, paths, batch=32), images=len(paths), repeats=options.repeats)
        print_table("Reading the pictures of an epoch", found)


if __name__ == "__main__":
    main()

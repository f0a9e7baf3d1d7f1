"""Parameters of the images line: is this image real or forged?"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from annotated_types import Len
from pydantic import AfterValidator, Field, model_validator

from assay.core.params import Line, Range, Section, Share, ShareRange, ordered
from assay.params.shared import Limits, NumBins, Positive, Rate, Roles, Runtime

Family = Literal["recon", "blend", "splice", "clone", "inpaint", "patchmatch", "resample", "superres"]
Quality = Annotated[int, Field(ge=1, le=100)]
QualityRange = Annotated[list[Quality], Len(2, 2), AfterValidator(ordered)]


def check_class_name(value: str | int | float | bool) -> str | int | float | bool:
    """A class is named by one folder or one value; what has a separator would match none."""
    if not str(value).strip() or re.search(r"[/\\]", str(value)):
        raise ValueError("allowed: the name of a folder, or a value of the column label; no path, and nothing empty")
    return value


# Names of classes may be read as numbers or booleans from YAML.
ClassName = Annotated[str | int | float | bool, AfterValidator(check_class_name)]


def check_group(value: str) -> str:
    """A rule for groups is folder, file, or a regular expression; a bare word is neither."""
    if value in ("folder", "file"):
        return value
    try:
        expression = re.compile(value)
    except re.error as error:
        raise ValueError(
            f"not a regular expression ({error}); allowed: folder, file, or one that finds the group"
        ) from None
    if re.fullmatch(r"\w*", value) or expression.fullmatch(""):
        raise ValueError("allowed: folder, file, or a regular expression that finds the group, say '/(vid[0-9]+)_'")
    return value


Group = Annotated[str, AfterValidator(check_group)]


class FetchPhotos(Section):
    source: str = Field(min_length=1, description="packages, none, or a folder of photographs")
    group: Group | None = Field(
        description="folder, file or a regular expression; null: file, with a warning if need be"
    )
    generated: bool = Field(
        description="with source packages: pictures made by a generator as well, which evaluate.external alone can name"
    )
    max_pixels: int = Field(ge=4096, description="larger images are rejected as decompression bombs")


class Recon(Section):
    """A small convolutional autoencoder with learned upsampling."""

    photos: Positive = Field(
        description="photographs it learns from; the largest groups that hold as many are set aside, in no role"
    )
    side: int = Field(ge=16, le=1024, multiple_of=4, description="of the windows it learns from, in pixels")
    width: int = Field(ge=4, le=512)
    latent: int = Field(ge=1, le=512)
    steps: Positive
    batch_size: Positive
    lr: float = Field(gt=0, le=1)


class Blend(Section):
    """Self-blending: how far the copy may differ from its original."""

    max_shift: Share = Field(description="of the side")
    max_scale: Share
    max_colour: Share = Field(description="of the 8-bit range, added per channel")
    opacity: ShareRange
    area: ShareRange = Field(description="share of the crop under the mask")


class Splice(Section):
    area: ShareRange
    feather: Share = Field(description="width of the soft edge, of the side")


class Clone(Section):
    area: ShareRange


class PatchMatch(Section):
    area: ShareRange
    patch: int = Field(ge=1, le=15, description="radius of a piece, in pixels")


class Inpaint(Section):
    area: ShareRange
    radius: float = Field(gt=0, le=50, description="pixels around a point that OpenCV looks at")


class Resample(Section):
    factor: Annotated[Range, Field(description="the crop is made this many times smaller, then larger")]
    kernels: list[Literal["nearest", "bilinear", "lanczos"]] = Field(min_length=1)


class Forge(Section):
    size: int = Field(ge=32, le=1024, description="side of a crop in pixels")
    crops_per_scene: Positive = Field(description="shared out over the photographs of a group, one each at least")
    generated_crops: Positive = Field(description="crops a group, real or generated, of the set of generated pictures")
    short_side: Annotated[
        Range,
        Field(description="photographs are made smaller to a short side drawn from here; smaller ones are rejected"),
    ]
    min_contrast: float = Field(ge=0, le=127, description="least standard deviation of a crop's grey values")
    jpeg_quality: QualityRange
    families: list[Family] = Field(min_length=1)
    unseen: list[Family] = Field(description="the families that appear in test only; empty: none")
    recon: Recon
    blend: Blend
    splice: Splice
    clone: Clone
    inpaint: Inpaint
    patchmatch: PatchMatch
    resample: Resample

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.short_side[0] < self.size:
            raise ValueError(f"short_side {self.short_side} must not be below size {self.size}")
        if self.resample.factor[0] <= 1:
            raise ValueError(f"resample.factor must be above 1, got {self.resample.factor}")
        if "recon" in self.families and self.size % 4:
            raise ValueError(f"size must be a multiple of 4 for family recon, got {self.size}")
        if self.size % 2:
            raise ValueError(f"size must be even, got {self.size}")
        if self.recon.side > self.size:
            raise ValueError(f"recon.side {self.recon.side} must not be above size {self.size}")
        for name, families in (("families", self.families), ("unseen", self.unseen)):
            if len(set(families)) != len(families):
                raise ValueError(f"{name} has an entry twice: {families}")
        if missing := [family for family in self.unseen if family not in self.families]:
            raise ValueError(f"unseen {missing} must be among families {self.families}")
        if not self.seen:
            raise ValueError("families must hold at least one family besides the unseen ones")
        return self

    @property
    def seen(self) -> list[Family]:
        """The families that stand in every role, in the order given."""
        return [family for family in self.families if family not in self.unseen]


class Classes(Section):
    """Names of folders, or values of a column; a class that is left out keeps its default names."""

    real: list[ClassName] | None = Field(default=None, min_length=1)
    forged: list[ClassName] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        real, forged = ({str(name).strip().casefold() for name in names or []} for names in (self.real, self.forged))
        if real & forged:
            raise ValueError(f"{sorted(real & forged)} stand in both classes; a name means real or forged")
        return self


class Labelled(Section):
    """How a set of labelled images is read."""

    classes: Classes | None = None
    group: Group | None = Field(
        default=None, description="folder, file or a regular expression: what must not be parted"
    )


class Source(Labelled):
    """One data set of labelled images."""

    dataset: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="its name in manifests and tables")
    kind: Literal["forge", "folders", "manifest"]
    path: str | None = Field(default=None, description="folder with real/ and forged/, or a CSV, parquet or JSON file")
    roles: Literal["declared", "drawn"] | None = Field(
        default=None, description="drawn: what it declares is not looked at"
    )

    @model_validator(mode="after")
    def _path_given(self) -> Self:
        if (self.kind == "forge") == (self.path is not None):
            raise ValueError("path is needed for kinds folders and manifest, and not taken by kind forge")
        if self.kind == "forge" and (self.classes, self.group, self.roles) != (None, None, None):
            raise ValueError("classes, group and roles are not taken by kind forge, which declares its own")
        return self


class NearDuplicates(Section):
    hash_side: int = Field(ge=4, le=32, multiple_of=4, description="side of the perceptual hash, in bits")
    max_distance: int = Field(ge=0, description="bits that may differ between near-duplicates")
    max_difference: float = Field(ge=0, le=255, description="mean grey levels their 16x16 thumbnails may differ")


class Audit(Section):
    max_auc: float = Field(ge=0.5, le=1)
    action: Literal["warn", "fail"]


class Prepare(Section):
    sources: list[Source] = Field(min_length=1)
    size: int = Field(ge=32, le=1024, description="side of a stored image in pixels")
    resize: Literal["crop", "squash"]
    max_pixels: int = Field(ge=4096)
    min_side: Positive
    folds: int = Field(ge=2, le=20)
    borrow_from: Literal["val", "train"] = Field(
        description="whose groups go to roles that a declared split leaves out"
    )
    near_duplicates: NearDuplicates
    audit: Audit

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [source.dataset for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"two sources share a dataset name: {names}")
        if sum(source.kind == "forge" for source in self.sources) > 1:
            raise ValueError("only one source can be of kind forge")
        return self


class Augment(Section):
    """Strength of each training transform; 0 switches it off."""

    horizontal_flip: Share = Field(description="probability")
    brightness: Share
    contrast: Share
    saturation: Share
    hue: float = Field(ge=0, le=0.5)
    jitter_probability: Share
    degrees: float = Field(ge=0, le=180)
    translate: Share
    scale: float = Field(ge=0, lt=1, description="0.1 draws from 0.9 to 1.1")
    affine_probability: Share
    blur_sigma: Annotated[list[Annotated[float, Field(ge=0, le=20)]], Len(2, 2), AfterValidator(ordered)]
    blur_probability: Share
    jpeg_quality: QualityRange
    jpeg_probability: Share


def check_weights(value: str) -> str:
    """A weights string is hub, random, ``file: PATH`` or ``package: NAME==VERSION`` (with #sha256=... if unknown)."""
    if value in ("hub", "random") or re.fullmatch(r"file:\s*\S.*", value):
        return value
    if re.fullmatch(r"package:\s*[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+(#sha256=[0-9a-f]{64})?", value):
        return value
    raise ValueError("allowed: hub, random, 'file: PATH', 'package: NAME==VERSION[#sha256=HASH]'")


Weights = Annotated[str, AfterValidator(check_weights)]


class Training(Section):
    """One network and how it is trained; stage 1 and the experts share it."""

    architecture: str = Field(min_length=1, description="a timm model name")
    weights: Weights
    image_size: int = Field(ge=32, le=1024)
    input: Literal["rgb", "srm"] = Field(description="colours, or three noise residuals of the grey picture")
    frozen_layers: int = Field(
        ge=0, description="the stem and lowest stages, which stay as they came; 0: all are trained"
    )
    epochs: Positive
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    selection: Literal["best", "last"] = Field(description="epoch that is kept: best val AUC, or the last")
    schedule: Literal["epoch", "step"] = Field(description="the cosine schedule moves after each epoch or each batch")
    warmup_epochs: int = Field(ge=0)
    mixed_precision: Literal["no", "bf16", "fp16"]
    loader_workers: int = Field(ge=0, le=64, description="processes that augment; 0: in the training process")
    augment: Augment

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}")
        return self


class Calibrate(Section):
    role: Literal["calib", "val"] = Field(description="val: the two-manifest plan; never train, tune or test")
    objective: Literal["nll", "ece"]
    num_bins: NumBins
    false_alarms: Rate = Field(description="share of the role that is warned of as unlike all seen")


class External(Labelled):
    """A labelled set that no other stage has seen."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    path: str = Field(min_length=1)


class Robustness(Section):
    """Grid of degradations; the first value of each list should be the untouched one."""

    max_samples: int = Field(ge=20)
    jpeg_quality: list[Quality] = Field(min_length=1, description="100: not recompressed")
    resize: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    blur_sigma: list[Annotated[float, Field(ge=0, le=10)]] = Field(min_length=1)


class Evaluate(Section):
    num_bins: NumBins
    external: list[External]
    robustness: Robustness
    exit_real: list[Share] = Field(min_length=1, description="leave as real at or below this probability")
    exit_forged: list[Share] = Field(min_length=1, description="leave as forged at or above this probability")


class Images(Line):
    """Everything the images line reads."""

    runtime: Runtime
    limits: Limits
    roles: Roles
    fetch_photos: FetchPhotos
    forge: Forge
    prepare: Prepare
    train_stage1: Training
    calibrate: Calibrate
    evaluate: Evaluate

    @model_validator(mode="after")
    def _never_enlarged(self) -> Self:
        if any(source.kind == "forge" for source in self.prepare.sources) and self.prepare.size > self.forge.size:
            raise ValueError(
                f"prepare.size {self.prepare.size} must not be above forge.size {self.forge.size}: what is forged would be "
                "enlarged, which leaves traces of its own"
            )
        return self

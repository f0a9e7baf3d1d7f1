"""Parameters of the vlm line: how dangerous is this corridor?"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from annotated_types import Len
from pydantic import AfterValidator, Field, model_validator

from assay.core.params import Line, Range, Section, Share
from assay.params.shared import Limits, Optimization, Positive, Roles, Runtime, Scaling

FactorRange = Annotated[Range, Field(description="[lowest, highest] factor")]
# Names of `assay.corridors.signs`, which only what draws them imports.
Sign = Literal["sign_warning", "sign_exit", "sign_fire_point", "sign_no_entry", "sign_hot", "sign_no_smoking"]
Degrees = Annotated[list[Annotated[float, Field(ge=0, le=360)]], Len(2, 2)]


class RenderCorridors(Section):
    source: str = Field(
        min_length=1,
        description="render, or the user's own: a table with image and label, or chats (messages or conversations)",
    )
    num_scenes: Annotated[int, Field(ge=20)] = Field(description="images rendered, the classes in equal parts")
    size: Annotated[list[Annotated[int, Field(ge=28, le=4096)]], Len(2, 2)] = Field(description="width, height")
    max_pixels: Positive = Field(description="larger images of the user's are rejected")
    min_side: Positive = Field(description="pixels; smaller images of the user's are rejected")


class AnswerClass(Section):
    """One class: its name in metrics and plots, its label in the data, and what the model answers for it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    label: str = Field(min_length=1)
    answer: str = Field(min_length=1, description="one token makes scoring one forward pass")


class Augment(Section):
    """Augmented copies of the training images."""

    copies: Annotated[int, Field(ge=0, le=16)] = Field(description="of each training image, the transforms in turn")
    scale: FactorRange
    max_degrees: float = Field(ge=0, le=45, description="of rotation, either way")
    hue: float = Field(ge=0, le=180, description="degrees, either way")
    saturation: FactorRange
    value: FactorRange
    signs: list[Sign] = Field(description="hung in the border of shrunk copies; empty: there are none of them")
    protected: list[Degrees] = Field(description="hues of danger, [from, to] in degrees; [345, 65] goes through 0")


class HighRisk(Section):
    """The class that a second model corrects, and how that one is asked."""

    label: str
    near_misses: list[str] = Field(description="labels that the second model sees more often than the others")
    question: str = Field(min_length=1)
    yes: str = Field(min_length=1, description="its answer for an image of that class")
    no: str = Field(min_length=1)


class Small(Section):
    """What stands for the real processor where none is named: its vocabulary is trained on the prompts and captions."""

    vocab_size: Annotated[int, Field(ge=280, le=200_000)]


class PrepareVlm(Section):
    roles: Roles = Field(description="shares of the groups (scenes)")
    borrow_from: Literal["val", "train"] = Field(
        description="whose groups go to roles that a declared split leaves out"
    )
    classes: Annotated[list[AnswerClass], Len(2)]
    high_risk: HighRisk
    system: str = Field(min_length=1)
    question: str = Field(min_length=1)
    caption_question: str = Field(min_length=1, description="asked in pretraining on captions")
    processor: str = Field(min_length=1, description="config: see small; or 'hub: NAME', 'folder: PATH'")
    small: Small
    min_pixels: Positive = Field(description="of an image as the model sees it")
    max_pixels: Positive
    max_tokens: Annotated[int, Field(ge=16)] = Field(description="a longer conversation is an error, never cut")
    augment: Augment

    @model_validator(mode="after")
    def _labels_known(self) -> Self:
        for part in ("name", "label", "answer"):
            values = [getattr(item, part) for item in self.classes]
            if len(set(values)) < len(values):
                raise ValueError(f"classes must differ in their {part}, got {values}")
        labels = [item.label for item in self.classes]
        named = [self.high_risk.label, *self.high_risk.near_misses]
        if set(named) - set(labels) or len(set(named)) < len(named):
            raise ValueError(f"high_risk.label and near_misses must be different labels of classes, got {named}")
        if self.high_risk.yes == self.high_risk.no:
            raise ValueError(f"high_risk.yes and no must differ, both are {self.high_risk.yes!r}")
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} must not be above max_pixels {self.max_pixels}")
        return self


class SmallVlm(Section):
    """A small Qwen2.5-VL with random weights, to be trained on captions."""

    hidden_size: Annotated[int, Field(ge=16, multiple_of=16)]
    num_layers: Positive
    num_heads: Positive
    intermediate_size: Annotated[int, Field(ge=16)]
    vision_hidden_size: Annotated[int, Field(ge=16, multiple_of=16)]
    vision_layers: Positive
    vision_heads: Positive
    vision_intermediate_size: Annotated[int, Field(ge=16)]

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        for name, size, heads in (
            ("hidden_size", self.hidden_size, self.num_heads),
            ("vision_hidden_size", self.vision_hidden_size, self.vision_heads),
        ):
            if size % (heads * 8):
                raise ValueError(f"{name} {size} must be a multiple of 8 times its number of heads ({heads})")
        return self


class PretrainVlm(Optimization):
    """The model that is fine-tuned: pretrained weights, or a small one pretrained on the captions of the training images."""

    base: str = Field(min_length=1, description="config: pretrained here; or 'hub: NAME', 'folder: PATH'")
    high_risk: str = Field(min_length=1, description="base of the second model: base, 'hub: NAME' or 'folder: PATH'")
    small: SmallVlm
    epochs: float = Field(ge=0, le=1000, description="0: start values only")


class Lora(Section):
    rank: Positive
    alpha: Positive
    dropout: Share
    dora: bool = Field(description="weight-decomposed adapters (Liu et al. 2024)")
    rslora: bool = Field(description="scale by alpha / sqrt(rank) (Kalajdzievski 2023)")
    target: str = Field(
        min_length=1, description="pattern of the modules' full names; the default: language model only"
    )


class FilterVlm(Section):
    """Filter of augmented copies whose image no longer fits its label."""

    scorer: Literal["models/vlm/pretrained/base", "models/vlm/sft/no_augmentation"] = Field(
        description="who judges: the model before fine-tuning, or after the unaugmented images"
    )
    quantile: Share | None = Field(description="of a class's unaugmented val images below it; null: every copy is kept")
    batch_size: Positive


class Tuning(Optimization):
    """One fine-tuning with LoRA."""

    gradient_accumulation: Positive
    lora: Lora
    train_vision: bool = Field(description="the vision tower is trained too, whole; else frozen")
    class_weights: Literal["none", "balanced"]
    checkpointing: bool = Field(description="activations computed anew in the backward pass")
    weights_dtype: Literal["float32", "bfloat16", "4bit"]
    mixed_precision: Literal["no", "bf16", "fp16"]
    merge: bool = Field(description="also save the whole network with the adapter merged in")
    launcher: str = Field(
        min_length=1, description="python, or say accelerate launch --config_file params/accelerate/fsdp.yaml"
    )


class Gate(Section):
    """The gate over the image tokens, where a second model has one."""

    width: Positive = Field(description="of its hidden layer")
    groups: Positive = Field(description="of channels that have a factor each; must divide the hidden size")
    limit: float = Field(gt=1, le=100, description="the largest factor, and 1 over the smallest")


class HighRiskNetwork(Section):
    """What one second model has of the parts that are measured against one another."""

    amplify: bool = Field(description="image tokens are scaled by the gate")
    attend: bool = Field(description="attention to image tokens is biased by the gate's marks")
    danger_weight: float = Field(ge=0, description="of the loss that draws the marks to where the danger is; 0: none")
    train_vision: bool = Field(description="the vision tower is trained too, whole, whatever vlm_sft_high_risk says")
    lr: Annotated[float, Field(gt=0, lt=1)] | None = Field(description="in the place of vlm_sft_high_risk.lr, or null")
    mistakes: bool = Field(description="rows that the first model gets wrong out of fold are drawn more often")

    @property
    def gated(self) -> bool:
        """Whether it has a gate."""
        return self.amplify or self.attend or self.danger_weight > 0


class AmplifierSettings(Gate):
    """A gate and what is done with it, as the manifest of an adapter holds it."""

    amplify: bool
    attend: bool
    danger_weight: float = Field(ge=0)


class VlmSftHighRisk(Tuning):
    """High risk against the rest."""

    mistake_share: float = Field(ge=0, lt=1, description="of the rows drawn: by the first model's out-of-fold error")
    gate: Gate

    high_share: float = Field(gt=0, lt=1, description="of the rows drawn")
    near_share: Share = Field(description="of the rows drawn: near misses")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.high_share + self.near_share > 1:
            raise ValueError(f"high_share {self.high_share} and near_share {self.near_share} must not sum to above 1")
        return self


class VlmPredict(Section):
    batch_size: Positive
    max_strength: float = Field(gt=0, le=10, description="of the correction")
    second: str = Field(
        description="the one of vlm_high_risk_networks that corrects, mean: all of them; auto: the best of these on tune"
    )
    scaling: Scaling
    num_mistakes: Positive = Field(description="worst mistakes shown")


def known_networks(networks: dict[str, str]) -> dict[str, str]:
    """Reject networks that no one can train: their names say what they learn."""
    rows = dict.fromkeys(("no_augmentation", "no_filter"), "rows/train.jsonl")
    known = ("base", "no_augmentation", "no_filter", "order_1, order_2, ...", "fold_0_of_2, fold_1_of_2")
    for name, file in networks.items():
        if not re.fullmatch(r"base|no_augmentation|no_filter|order_[1-9]\d*|fold_\d_of_\d", name):
            raise ValueError(f"no network {name!r}: known are {', '.join(known)}")
        # Folds say what they think of every row that the second model may draw, and wait for no filter.
        wanted = "rows/train.jsonl" if name.startswith("fold_") else rows.get(name, "filtered/train.jsonl")
        if file != wanted:
            raise ValueError(f"{name} learns {wanted}, got {file!r}")
    if "base" not in networks:
        raise ValueError("base is missing: it is the first model, the others are compared with it")
    folds = sorted(name for name in networks if name.startswith("fold_"))
    # Stages of dvc.yaml wait for these two.
    if folds != ["fold_0_of_2", "fold_1_of_2"]:
        raise ValueError(f"folds must be fold_0_of_2 and fold_1_of_2, got {folds}")
    return networks


Networks = Annotated[dict[str, str], AfterValidator(known_networks)]


class Vlm(Line):
    """Everything the vlm line reads."""

    runtime: Runtime
    limits: Limits
    render_corridors: RenderCorridors
    prepare_vlm: PrepareVlm
    pretrain_vlm: PretrainVlm
    vlm_networks: Networks
    filter_vlm: FilterVlm
    vlm_sft: Tuning
    vlm_high_risk_networks: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], HighRiskNetwork], Len(1)
    ]
    vlm_sft_high_risk: VlmSftHighRisk
    vlm_predict: VlmPredict

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        if (self.prepare_vlm.processor == "config") != (self.pretrain_vlm.base == "config"):
            raise ValueError("prepare_vlm.processor and pretrain_vlm.base must both be config or both be given")
        scorer = self.filter_vlm.scorer
        if scorer.endswith("no_augmentation") and "no_augmentation" not in self.vlm_networks:
            raise ValueError(f"filter_vlm.scorer {scorer} needs the network no_augmentation in vlm_networks")
        seconds, second = self.vlm_high_risk_networks, self.vlm_predict.second
        if taken := {"auto", "mean"} & set(seconds):
            raise ValueError(f"vlm_high_risk_networks: {taken.pop()!r} means something else; use another name")
        choices = ["auto", *(["mean"] if len(seconds) > 1 else []), *seconds]
        if second not in choices:
            raise ValueError(f"vlm_predict.second: got {second!r}; use one of {', '.join(choices)}")
        if self.vlm_sft_high_risk.merge and (gated := [name for name, network in seconds.items() if network.gated]):
            raise ValueError(
                f"vlm_sft_high_risk.merge: a merged network has no gate, and {gated} have one; set it false"
            )
        return self

    @property
    def folds(self) -> list[str]:
        """The networks that leave out a fold of the training images, and say what they think of it."""
        return sorted(name for name in self.vlm_networks if name.startswith("fold_"))

    def high_risk_network(self, name: str) -> HighRiskNetwork:
        """What a second model has of the parts; ValueError if there is no such network."""
        if name not in self.vlm_high_risk_networks:
            known = ", ".join(self.vlm_high_risk_networks)
            raise ValueError(f"network {name!r} is unknown; vlm_high_risk_networks has {known}")
        return self.vlm_high_risk_networks[name]

    def network_rows(self, name: str) -> str:
        """The file under data/vlm that a network learns.

        Raises:
            ValueError: no such network.
        """
        if name not in self.vlm_networks:
            raise ValueError(f"network {name!r} is unknown; vlm_networks has {', '.join(self.vlm_networks)}")
        return self.vlm_networks[name]

"""Parameters of the text line: which class is this text?"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from assay.core.params import Line, Section, Share
from assay.params.shared import Limits, MaxTokens, Optimization, Positive, RoleShares, Runtime, Scaling


def ascending(values: list[int]) -> list[int]:
    """Reject edges out of order, or twice the same."""
    if values != sorted(set(values)):
        raise ValueError(f"must ascend, got {values}")
    return values


def class_names(values: list[str] | None) -> list[str] | None:
    """Names without spaces at the ends; reject one that is empty or stands there twice."""
    names = None if values is None else [name.strip() for name in values]
    if names is not None and (not all(names) or len(set(names)) < len(names)):
        raise ValueError(f"each class has one name, once; got {names}")
    return names


class FetchText(Section):
    source: str = Field(min_length=1, description="packages, or a table (docs/your-data.md) with text and label")
    vocabulary: str = Field(min_length=1, description="package, or a vocab.txt with a token per line")
    encoder: str = Field(min_length=1, description="config: our own, pretrained here; or 'hub: NAME', 'folder: PATH'")


class TextRoles(RoleShares):
    """A group is a set of near-duplicate texts."""

    train: Share
    val: Share
    calib: Share
    test: Share


class NearDuplicates(Section):
    """MinHash over character shingles."""

    threshold: float = Field(gt=0, le=1, description="Jaccard similarity from which two texts are one group")
    num_perm: int = Field(ge=16, le=512)
    shingle: int = Field(ge=1, le=16, description="characters")


class PrepareText(Section):
    roles: TextRoles
    unicode_form: Literal["NFKC", "NFC", "none"] = Field(description="NFKC makes full-width letters half-width")
    classes: Annotated[list[str] | None, AfterValidator(class_names)] = Field(
        description="other labels are rejected; null: every label that occurs is a class"
    )
    near_duplicates: NearDuplicates


class OwnEncoder(Section):
    """The RoBERTa-style encoder to be pretrained here."""

    hidden_size: Annotated[int, Field(ge=8)]
    num_layers: Positive
    num_heads: Positive
    intermediate_size: Annotated[int, Field(ge=8)]
    pair_size: Annotated[int, Field(ge=0)] = Field(description="of the embeddings of neighbouring pairs; 0: none")
    pair_min_count: Positive = Field(description="texts of train in which a pair has to stand")
    pair_dropout: Share
    min_token_count: Positive = Field(description="rarer tokens of train become [UNK]")
    embeddings: Literal["ppmi", "random"] = Field(description="start values: from co-occurrence in train, or random")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of num_heads ({self.num_heads})")
        return self


class PretrainText(Optimization):
    """Masked-language-model pretraining with whole-word masks; not run where pretrained weights are named."""

    encoder: OwnEncoder
    epochs: float = Field(ge=0, le=1000, description="0: start values only")
    dropout: Share
    max_tokens: MaxTokens
    mask_share: float = Field(gt=0, lt=1, description="share of a text's tokens that are to be predicted")


class Distillation(Section):
    """Soft targets (Hinton et al. 2015, at temperature 1)."""

    teacher: str = Field(
        min_length=1, description="none, linear (char n-grams, out of fold), or 'folder: PATH' of a trained classifier"
    )
    weight: Share = Field(description="of the teacher's probabilities in the targets")


class Linear(Section):
    """Character n-gram TF-IDF + logistic regression."""

    max_ngram: Annotated[int, Field(ge=1, le=6)]
    c: float = Field(gt=0, description="inverse penalty")


class TrainText(Optimization):
    max_tokens: MaxTokens
    dropout: Share = Field(description="in the encoder and before the head")
    token_dropout: Share = Field(description="share of the tokens replaced by [MASK] in training")
    label_smoothing: Share
    class_weights: Literal["none", "balanced"]
    pooling: Literal["mean", "cls"]
    length_grouped: bool
    eval_every: float = Field(gt=0, description="epochs between two evaluations on val")
    keep: Literal["best", "last"] = Field(description="the weights of the best evaluation on val, or the last")
    early_stopping: Positive | None = Field(description="evaluations without a better one before it stops; null: off")
    mixed_precision: Literal["no", "bf16", "fp16"]
    distillation: Distillation

    @model_validator(mode="after")
    def _stops_at_the_best(self) -> Self:
        if self.early_stopping is not None and self.keep != "best":
            raise ValueError("early_stopping needs keep: best, since the last weights are then not the wanted ones")
        return self


class PoolText(Section):
    linear: Linear = Field(description="the linear model that teaches, and that the ensemble may hold")
    fuse_linear: bool = Field(description="the classifier that is shipped holds the linear model too")
    scaling: Scaling


def known_networks(names: list[str]) -> list[str]:
    """Reject names that are not network_<number> or no_pretraining, a name twice, and a list without a member."""
    odd = [name for name in names if not re.fullmatch(r"no_pretraining|network_(0|[1-9]\d*)", name)]
    if odd or len(set(names)) < len(names):
        raise ValueError(f"known are network_0, network_1, ... and no_pretraining, each once; got {names}")
    if not any(name.startswith("network_") for name in names):
        raise ValueError("network_0 is missing: the classifier needs a network")
    return names


class EvaluateText(Section):
    logistic_c: float = Field(gt=0, description="inverse penalty of the character-bigram baseline")
    length_edges: Annotated[list[Positive], AfterValidator(ascending)] = Field(
        description="characters at which a new range of lengths begins"
    )
    num_mistakes: Positive = Field(description="most confident mistakes listed")


class Text(Line):
    """Everything the text line reads."""

    runtime: Runtime
    limits: Limits
    fetch_text: FetchText
    prepare_text: PrepareText
    pretrain_text: PretrainText
    text_networks: Annotated[list[str], AfterValidator(known_networks)]
    train_text: TrainText
    pool_text: PoolText
    evaluate_text: EvaluateText

    @model_validator(mode="after")
    def _positions_reach(self) -> Self:
        have, want = self.pretrain_text.max_tokens, self.train_text.max_tokens
        if self.fetch_text.encoder == "config" and want > have:
            raise ValueError(f"train_text.max_tokens {want} must not be above pretrain_text.max_tokens {have}")
        return self

    def network_number(self, name: str) -> int:
        """What a network adds to the seed: its number; 0 without pretraining, to start as the first one does.

        Raises:
            ValueError: no such network.
        """
        if name not in self.text_networks:
            raise ValueError(f"network {name!r} is unknown; text_networks has {', '.join(self.text_networks)}")
        return 0 if name == "no_pretraining" else int(name.removeprefix("network_"))

"""Parameters of the text line: which class is this text?"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from assay.core.params import Line, Section, Share
from assay.params.shared import Limits, MaxTokens, Optimization, Positive, Rate, RoleShares, Runtime, Scaling


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


def once(values: list[str]) -> list[str]:
    """Reject a name that stands there twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"each stands there once; got {values}")
    return values


NetworkName = Literal["own", "pretrained", "distilled"]


class FetchText(Section):
    source: str = Field(min_length=1, description="packages, or a table (docs/your-data.md) with text and label")
    vocabulary: str = Field(
        min_length=1, description="of the own encoder: package, or a vocab.txt with a token per line"
    )
    encoder: str = Field(
        min_length=1, description="what pretrained starts from: 'package: ...', 'hub: NAME', 'folder: PATH'"
    )


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


class AugmentText(Section):
    """Changed copies of the texts of train, for the networks that ask for them."""

    copies: Annotated[int, Field(ge=0, le=100)] = Field(description="of each text, by words")
    deletion: Share = Field(description="probability of a word to be left out")
    swap: Share = Field(description="pairs of words that change places, as a share of the words")
    synonyms: Share = Field(description="probability of a word that the thesaurus knows to become a synonym")
    thesaurus: str | None = Field(description="a file with a set of synonyms a line, as Cilin has them; null: none")
    translation: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        description="[there, back]: folders of translation models, for one more copy of each text; null: none"
    )


class PrepareText(Section):
    roles: TextRoles
    unicode_form: Literal["NFKC", "NFC", "none"] = Field(description="NFKC makes full-width letters half-width")
    classes: Annotated[list[str] | None, AfterValidator(class_names)] = Field(
        description="other labels are rejected; null: every label that occurs is a class"
    )
    near_duplicates: NearDuplicates
    augment: AugmentText
    unlabelled: str | None = Field(
        description="a table with text alone, for distilled: its teacher says what they are; null: none"
    )


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
    """Masked-language-model pretraining of the own encoder with whole-word masks."""

    encoder: OwnEncoder
    epochs: float = Field(ge=0, le=1000, description="0: start values only")
    dropout: Share
    max_tokens: MaxTokens
    mask_share: float = Field(gt=0, lt=1, description="share of a text's tokens that are to be predicted")


class Distillation(Section):
    """Soft targets (Hinton et al. 2015, at temperature 1)."""

    teacher: str = Field(
        min_length=1,
        description="none, linear (char n-grams, out of fold), pretrained (of distilled alone: that network), or "
        "'folder: PATH' of a trained classifier",
    )
    weight: Share = Field(description="of the teacher's probabilities in the targets")


class Linear(Section):
    """Character n-gram TF-IDF + logistic regression."""

    max_ngram: Annotated[int, Field(ge=1, le=6)]
    c: float = Field(gt=0, description="inverse penalty")


class TextNetwork(Optimization):
    """How one network is fine-tuned."""

    max_tokens: MaxTokens
    augmented: bool = Field(description="the changed copies of prepare_text.augment are trained on, too")
    dropout: Share = Field(description="in the encoder and before the head")
    token_dropout: Share = Field(description="share of the tokens hidden in training")
    label_smoothing: Share
    r_drop: float = Field(
        ge=0, description="weight of the divergence between two passes with other dropout; 0: one pass"
    )
    adversarial: float = Field(ge=0, lt=1, description="size of the adversarial weight perturbation; 0: none")
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


class PretrainedNetwork(TextNetwork):
    """What comes pretrained has many layers, of which the lowest may stay as they are."""

    num_layers: Positive | None = Field(description="the lowest so many layers are used, the others dropped; null: all")
    frozen_layers: Annotated[int, Field(ge=0)] = Field(
        description="embeddings and lowest layers that stay as pretrained, computed once for each text; 0: all are trained"
    )
    merged_tokens: Annotated[int, Field(ge=1, le=64)] = Field(
        description="above the frozen layers so many neighbouring tokens are one, their mean; 1: none are merged"
    )
    frozen_dtype: Literal["float32", "bfloat16"] = Field(description="in which the frozen layers are computed")
    layer_decay: float = Field(gt=0, le=1, description="lr of a layer over that of the layer above it")
    head_lr: Rate = Field(description="lr of the head, which is new")

    @model_validator(mode="after")
    def _one_is_trained(self) -> Self:
        if self.num_layers is not None and self.frozen_layers >= self.num_layers:
            raise ValueError(f"frozen_layers {self.frozen_layers} must be below num_layers ({self.num_layers})")
        if self.merged_tokens > 1 and self.frozen_layers == 0:
            raise ValueError(f"merged_tokens {self.merged_tokens} needs frozen_layers, above which they are merged")
        return self


class TrainText(Section):
    """A section for each network."""

    own: TextNetwork
    pretrained: PretrainedNetwork
    distilled: TextNetwork

    @model_validator(mode="after")
    def _teaches_another(self) -> Self:
        for name in ("own", "pretrained"):
            if getattr(self, name).distillation.teacher == "pretrained":
                raise ValueError(f"{name}.distillation.teacher pretrained: that network teaches distilled alone")
        return self


class PoolText(Section):
    members: Annotated[list[NetworkName], Field(min_length=1), AfterValidator(once)] = Field(
        description="networks of the classifier that ships"
    )
    small: Annotated[list[NetworkName], Field(min_length=1), AfterValidator(once)] = Field(
        description="networks of the small classifier, for machines that the other one is too slow for"
    )
    linear: Linear = Field(description="the linear model that teaches, and that the ensemble may hold")
    fuse_linear: bool = Field(description="the classifier that is shipped holds the linear model too")
    scaling: Scaling


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
    train_text: TrainText
    pool_text: PoolText
    evaluate_text: EvaluateText

    @model_validator(mode="after")
    def _positions_reach(self) -> Self:
        have = self.pretrain_text.max_tokens
        for name in ("own", "distilled"):
            if (want := getattr(self.train_text, name).max_tokens) > have:
                raise ValueError(
                    f"train_text.{name}.max_tokens {want} must not be above pretrain_text.max_tokens {have}"
                )
        return self

    def network(self, name: str) -> TextNetwork:
        """The section of a network.

        Raises:
            ValueError: no such network.
        """
        if name not in TrainText.model_fields:
            raise ValueError(f"network {name!r} is unknown; train_text has {', '.join(TrainText.model_fields)}")
        found: TextNetwork = getattr(self.train_text, name)
        return found

"""The JSON records of models, as classes: what a command may believe of them, checked before anything is built from them.

One reader: an error names the file and the field, and shows at most 80 characters of a value. Keys that only inform (what a
training was like) are not looked at.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from assay.params.counts import VARIANTS, TrainCounts

# Bytes; the largest record, of an adapter on a large model, has some ten thousand.
MAX_SIZE = 2**20
SHOWN = 80

Name = Annotated[str, Field(pattern=r"^\w[\w.\-]{0,79}$")]
Temperature = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=1, le=2**16)]
Reach = Annotated[float, Field(ge=0, le=50)]  # on the scale of a logarithm
Floats = Annotated[list[float], Field(max_length=10_000)]
# transformers takes any of its classes for one, say a retriever with an index of its own.
Tokenizer = Annotated[str, Field(pattern=r"^\w{0,80}(Tokenizer|TokenizerFast|Backend)$")]
Names = Annotated[list[Annotated[str, Field(max_length=1000)]], Field(min_length=2, max_length=10_000)]


class Record(BaseModel):
    """A part of a record: wrong types and numbers that are not finite are errors, other keys are left alone."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


def same_length(**lists: list[Any]) -> None:
    """Raise ValueError, naming them, unless the lists are of one length."""
    if len({len(values) for values in lists.values()}) > 1:
        raise ValueError(f"differ in length: {', '.join(f'{name} {len(values)}' for name, values in lists.items())}")


class Decode(Record):
    side: Annotated[int, Field(ge=8, le=2048)]
    resize: Literal["squash", "crop"]
    max_pixels: Annotated[int, Field(ge=1)]
    min_side: Annotated[int, Field(ge=1)]
    hash_side: Annotated[int, Field(ge=2, le=64)]


class JoinRecord(Record):
    model_config = ConfigDict(extra="forbid")

    first: float
    second: float
    intercept: float


class LevelRecord(Record):
    network: Annotated[str, Field(pattern=r"^[a-z]\w{0,79}(@[1-9]\d{0,3})?$")]
    temperature: Temperature
    join: JoinRecord | None


class CascadeRecord(Record):
    levels: Annotated[list[LevelRecord], Field(min_length=1, max_length=2)]
    # Beyond 0 and 1: nothing leaves on that side.
    exit_real: Annotated[float, Field(ge=-1, le=1)] | None
    exit_forged: Annotated[float, Field(ge=0, le=2)] | None
    unsure: Annotated[list[Annotated[float, Field(gt=-2, lt=3)]], Field(min_length=2, max_length=2)] | None
    explanation: Annotated[list[str], Field(max_length=1000)]
    unlike_distance: Annotated[float, Field(gt=0)]
    decode: Decode

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.levels) == 1:
            if (self.exit_real, self.exit_forged, self.unsure, self.levels[0].join) != (None, None, None, None):
                raise ValueError("one level has no exits, no unsure and no join")
            return self
        if self.exit_real is None or self.exit_forged is None:
            raise ValueError("two levels need exit_real and exit_forged")
        if self.levels[0].join is not None or self.levels[1].join is None:
            raise ValueError("of two levels the second has a join")
        if self.exit_real >= self.exit_forged:
            raise ValueError(f"exit_real {self.exit_real} must lie below exit_forged {self.exit_forged}")
        return self


class MetaModelRecord(Record):
    kind: Literal["single", "mean_logit", "logistic", "lightgbm_logits", "lightgbm"]
    experts: Annotated[list[Name], Field(min_length=1, max_length=100)]
    expert: Annotated[int, Field(ge=0)]
    coefficients: Floats
    intercept: float

    @model_validator(mode="after")
    def _fits_the_experts(self) -> Self:
        if self.expert >= len(self.experts):
            raise ValueError(f"expert {self.expert} is none of {len(self.experts)} experts")
        if self.kind == "logistic":
            same_length(coefficients=self.coefficients, experts=self.experts)
        return self


class MetaRecord(Record):
    model: MetaModelRecord
    join: JoinRecord
    test_time_mode: Literal["refit", "fold_average"]


class DataConfigRecord(Record):
    image_size: Annotated[int, Field(ge=8, le=2048)]
    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]
    interpolation: Name
    input: Literal["rgb", "srm"]


class CheckpointRecord(Record):
    architecture: Name
    data_config: DataConfigRecord
    embedding_dim: Size = 1


class EnsembleRecord(Record):
    classes: Names
    networks: Annotated[list[Name], Field(min_length=1, max_length=100)]
    fuse_linear: bool
    unicode_form: Literal["NFC", "NFKC", "none"]
    weights: Floats
    scale: Floats
    bias: Floats

    @model_validator(mode="after")
    def _fits(self) -> Self:
        same_length(classes=self.classes, scale=self.scale, bias=self.bias)
        if len(self.weights) != len(self.networks) + self.fuse_linear:
            raise ValueError(f"{len(self.weights)} weights for {len(self.networks)} networks")
        return self


class ClassifierRecord(Record):
    num_classes: Annotated[int, Field(ge=2, le=10_000)]
    max_tokens: Annotated[int, Field(ge=3, le=2**20)]
    merge_above: Annotated[int, Field(ge=0, le=1000)]
    merged_tokens: Annotated[int, Field(ge=1, le=64)]
    pooling: Literal["mean", "cls"]


class PairsRecord(Record):
    size: Size
    dropout: Share


class EncoderRecord(Record):
    pairs: PairsRecord | None


class LinearRecord(Record):
    max_ngram: Annotated[int, Field(ge=1, le=16)]
    bias: Floats


class BinsRecord(Record):
    kind: Literal["equal_width", "quantile"]
    edges: Annotated[Floats, Field(min_length=3)]
    shares: Floats
    means: Floats
    note: str

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must rise")
        same_length(shares=self.shares, means=self.means, bins=self.edges[1:])
        return self


class RegressionRecord(Record):
    kind: Literal["regression"]
    log: bool
    mean: float
    std: Annotated[float, Field(gt=0)]
    low: float
    high: float
    rank_weight: Share = 0.0


class ClassesRecord(Record):
    kind: Literal["classes"]
    bins: BinsRecord
    weights: Floats


class OrdinalRecord(Record):
    kind: Literal["ordinal"]
    bins: BinsRecord
    name: Literal["corn", "coral"]


class VariantRecord(Record):
    variant: Literal[VARIANTS]  # type: ignore[valid-type]
    adapter: bool
    base: Annotated[str, Field(max_length=1000)] = ""
    base_sha256: dict[str, str] = {}
    cuts: Floats | None
    objective: Annotated[RegressionRecord | ClassesRecord | OrdinalRecord, Field(discriminator="kind")]
    quantile_bins: BinsRecord
    settings: dict[str, Any]

    @model_validator(mode="after")
    def _settings_of_the_variant(self) -> Self:
        kind = TrainCounts.model_fields[self.variant].annotation
        assert kind is not None
        try:
            kind.model_validate(self.settings)
        except ValidationError as error:
            raise ValueError(f"settings.{told(error)}") from None
        if self.adapter != (self.variant == "llm_lora") or (self.adapter and not self.base):
            raise ValueError("adapter, base and variant do not fit each other")
        return self


class ChoiceRecord(Record):
    count: Literal[VARIANTS]  # type: ignore[valid-type]
    bin: Literal[VARIANTS]  # type: ignore[valid-type]


class IntervalRecord(Record):
    level: Annotated[float, Field(gt=0, lt=1)]
    num_groups: Annotated[int, Field(ge=1)]
    pooled: Reach | None
    kinds: dict[Annotated[str, Field(max_length=1000)], Reach]


class IntervalsRecord(Record):
    variants: dict[Literal[VARIANTS], IntervalRecord]  # type: ignore[valid-type]


Second = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,79}$")]


class FusionRecord(Record):
    second: Second
    members: Annotated[list[Second], Field(min_length=1, max_length=100)]
    high: Annotated[int, Field(ge=0)]
    neutral: Annotated[float, Field(gt=0, lt=1)]
    strength: Annotated[float, Field(ge=0)]
    high_temperature: Temperature
    scale: Annotated[Floats, Field(min_length=2)]
    bias: Floats

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.second != "mean" and self.members != [self.second]:
            raise ValueError(f"members {shown(self.members)} are not the second model {self.second}")
        same_length(scale=self.scale, bias=self.bias)
        if self.high >= len(self.scale):
            raise ValueError(f"high {self.high} is none of {len(self.scale)} classes")
        return self


class PromptRecord(Record):
    model_config = ConfigDict(extra="forbid")

    system: Annotated[str, Field(max_length=10_000)]
    question: Annotated[str, Field(max_length=10_000)]
    answers: Names
    labels: Names
    names: Names
    min_pixels: Annotated[int, Field(ge=1, le=10**9)]
    max_pixels: Annotated[int, Field(ge=1, le=10**9)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        same_length(answers=self.answers, labels=self.labels, names=self.names)
        return self


class AmplifierRecord(Record):
    width: Size
    groups: Size
    limit: Annotated[float, Field(gt=1, le=100)]
    amplify: bool
    attend: bool


class ManifestRecord(Record):
    base: Annotated[str, Field(min_length=1, max_length=1000)]
    base_files: dict[str, str]
    processor: Annotated[str, Field(min_length=1, max_length=1000)]
    processor_files: dict[str, str]
    prompt: PromptRecord
    amplifier: AmplifierRecord | None
    weights_dtype: Literal["float32", "bfloat16", "4bit"]


class NetworkRecord(Record):
    """transformers' config.json: the sizes of BERT and its like, and of Qwen2; another kind of network may have others."""

    model_type: Name
    hidden_size: Size = 1
    intermediate_size: Annotated[int, Field(ge=1, le=2**20)] = 1
    num_hidden_layers: Annotated[int, Field(ge=1, le=1000)] = 1
    num_attention_heads: Annotated[int, Field(ge=1, le=1000)] = 1
    num_key_value_heads: Annotated[int, Field(ge=1, le=1000)] = 1
    vocab_size: Annotated[int, Field(ge=1, le=2**24)] = 1
    max_position_embeddings: Annotated[int, Field(ge=1, le=2**24)] = 1
    type_vocab_size: Size = 1
    tokenizer_class: Tokenizer | None = None

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size}, num_attention_heads {self.num_attention_heads} and num_key_value_heads "
                f"{self.num_key_value_heads} do not divide each other"
            )
        return self

    def num_weights(self) -> int:
        """Weights that a network of these sizes has at least."""
        tables = self.vocab_size + self.type_vocab_size
        # Qwen2 has no table of positions.
        tables += 0 if self.model_type == "qwen2" else self.max_position_embeddings
        return self.hidden_size * (tables + 2 * self.num_hidden_layers * (self.hidden_size + self.intermediate_size))


class TokenizerRecord(Record):
    """transformers' tokenizer_config.json: the class that reads the tokenizer."""

    tokenizer_class: Tokenizer | None = None


class AdapterRecord(Record):
    """PEFT's adapter_config.json: the size of a LoRA adapter."""

    r: Annotated[int, Field(ge=1, le=1024)]
    lora_alpha: Annotated[float, Field(gt=0)]
    rank_pattern: Annotated[dict[str, int], Field(max_length=0)]
    target_modules: Annotated[str, Field(max_length=1000)]


RECORDS: dict[str, type[Record]] = {
    "cascade.json": CascadeRecord,
    "meta.json": MetaRecord,
    "model.json": CheckpointRecord,
    "ensemble.json": EnsembleRecord,
    "classifier.json": ClassifierRecord,
    "encoder.json": EncoderRecord,
    "linear.json": LinearRecord,
    "variant.json": VariantRecord,
    "choice.json": ChoiceRecord,
    "intervals.json": IntervalsRecord,
    "fusion.json": FusionRecord,
    "manifest.json": ManifestRecord,
    "config.json": NetworkRecord,
    "tokenizer_config.json": TokenizerRecord,
    "adapter_config.json": AdapterRecord,
}

RecordT = TypeVar("RecordT", bound=BaseModel)


def shown(value: object) -> str:
    """At most `SHOWN` characters of a value, for a message."""
    # A long text or list is cut before it is written out.
    text = repr(value[:SHOWN] if isinstance(value, str | list) else value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def told(error: ValidationError) -> str:
    """The first field at fault, what is wrong, and its value."""
    first = error.errors(include_url=False, include_context=False)[0]
    # A key is as strange as any other text of the file.
    parts = [str(part) for part in first["loc"][:8]]
    place = ".".join(part if re.fullmatch(rf"\w{{1,{SHOWN}}}", part) else shown(part) for part in parts)
    # Where a whole record is at fault the message names what matters.
    whole = isinstance(first["input"], dict | bytes | BaseModel) or first["type"] == "missing"
    got = "" if whole else f", got {shown(first['input'])}"
    words = first["msg"].removeprefix("Value error, ").splitlines()[0][: 3 * SHOWN]
    return f"{f'{place}: ' if place else ''}{words}{got}"


def read_record(path: Path, kind: type[RecordT]) -> RecordT:
    """The record in a JSON file.

    Raises:
        ValueError: no such file, a larger one than a record can be, not JSON, or not of this kind: file, field and value.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}")
    if (size := path.stat().st_size) > MAX_SIZE:
        raise ValueError(f"{path}: {size} bytes, a record has at most {MAX_SIZE}")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path}: {told(error)}") from None


def check_record(path: Path) -> None:
    """Read a file of a models folder as the record that its name says, if it is one; ValueError as `read_record`.

    Of a network it is also seen that its config asks for no more weights than the file beside it can hold.
    """
    if path.name not in RECORDS:
        return
    record = read_record(path, RECORDS[path.name])
    if isinstance(record, NetworkRecord):
        # Half a byte for a weight is the least that is in use.
        held = 2 * sum(file.stat().st_size for file in path.parent.glob("*.safetensors"))
        if record.num_weights() > held:
            raise ValueError(
                f"{path}: its sizes ask for {record.num_weights()} weights, and the files beside it hold {held} at most"
            )

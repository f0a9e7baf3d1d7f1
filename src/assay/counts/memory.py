"""What training a language model as a classifier will need in memory, said before a byte of it is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, combinations, product
from typing import Any

import psutil
import torch

GIB = 2**30
# Four bits, and one fp32 constant for each block of 64 weights: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of
# Quantized LLMs", section 3. Double quantization would bring it to 0.516; the larger figure is planned with.
FOUR_BIT_BYTES = 0.5 + 4 / 64
OPTIMIZER_STATES = {"adamw": 2}
MIN_TOKENS = 128  # no shorter text is proposed: the question itself would be cut away
CHANGES = {
    "lora": "lora instead of full",
    "bf16": "bf16 instead of fp32",
    "checkpointing": "checkpointing on",
    "batch_size": "batch_size {batch_size}",
    "max_tokens": "max_tokens {sequence_length}",
    "four_bit": "four_bit on",
}
WIDTHS = {"trainable_bytes": (4, 2), "activation_bytes": (4, 2), "weight_bytes": (4, 2, FOUR_BIT_BYTES)}
FLAGS = dict.fromkeys(("checkpointing", "stores_scores", "gated_mlp"), (True, False))
ALLOWED: dict[str, tuple[Any, ...]] = {**WIDTHS, **FLAGS, "optimizer": tuple(OPTIMIZER_STATES)}
LINES = ("parameters", "gradients", "optimizer", "activations", "reserve")


def _check(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name in ALLOWED and value not in ALLOWED[name]:
            raise ValueError(f"{name} is {value!r}: set it to one of {', '.join(map(str, ALLOWED[name]))}")
        if name not in ALLOWED and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}: set it to 1 or more")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a transformer, counted in parameters, layers, features, heads and classes.

    ``num_params`` counts the adapters too, ``gated_mlp`` says that the MLP has three matrices (Qwen2), not two (BERT).

    Raises:
        ValueError: a size below 1, more trainable parameters than there are, or heads that do not divide.
    """

    num_params: int
    trainable_params: int
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    num_labels: int
    gated_mlp: bool = True

    def __post_init__(self) -> None:
        _check(asdict(self))
        if self.hidden_size % self.num_heads or self.num_heads % self.num_kv_heads:
            got = f"{self.num_heads} and {self.num_kv_heads} with hidden_size {self.hidden_size}"
            raise ValueError(f"num_heads and num_kv_heads are {got}: each must divide, take them from one config")
        if self.trainable_params > (most := self.num_params):
            raise ValueError(
                f"trainable_params {self.trainable_params} is over num_params {most}: count adapters in both"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """How the model is trained; widths are bytes a number.

    Args:
        weight_bytes: a frozen weight: 4 (fp32), 2 (bf16) or ``FOUR_BIT_BYTES`` (the embedding table then stays bf16).
        trainable_bytes: a trainable parameter and, once more, its gradient: 4 or 2.
        optimizer: ``adamw``, two states in the trainable parameter's width, as torch keeps them (no step counts).
        sequence_length: tokens of a padded text.
        activation_bytes: 4, or 2 for bf16 (autocast, where the weights are wider).
        checkpointing: keep the layers' inputs only, and compute the rest again on the way back.
        stores_scores: the attention keeps its score matrix (``eager``, and SDPA with dropout on a CPU); SDPA on a GPU
            and flash attention do not.

    Raises:
        ValueError: naming the field and what it may be.
    """

    weight_bytes: float
    batch_size: int
    sequence_length: int
    activation_bytes: int
    checkpointing: bool
    trainable_bytes: int = 4
    optimizer: str = "adamw"
    stores_scores: bool = False

    def __post_init__(self) -> None:
        _check(asdict(self))


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of each kind of tensor, the reserve on top of them, and what there is; with what they were planned for."""

    shape: ModelShape
    setup: TrainingSetup
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    reserve: int
    reserve_share: float
    available: int

    @property
    def total(self) -> int:
        return sum(getattr(self, name) for name in LINES)


def shape_of(model: Any) -> ModelShape:
    """The shape of a transformers model, on any device (``meta`` too), wrapped by peft or not.

    Raises:
        ValueError: weights already packed in four bits, which no longer tell their number; or nothing is trainable.
    """
    config, named = model.config.get_text_config(), dict(model.named_parameters())
    if any(type(value).__name__ == "Params4bit" for value in named.values()):
        raise ValueError("model is packed in four bits and can't be counted: take its shape before that, on meta")
    hidden, heads = config.hidden_size, config.num_attention_heads
    widths = [getattr(config, name, None) for name in ("intermediate_size", "hidden_dim", "ffn_dim", "n_inner")]
    return ModelShape(
        num_params=sum(value.numel() for value in named.values()),
        trainable_params=sum(value.numel() for value in named.values() if value.requires_grad),
        num_layers=config.num_hidden_layers,
        hidden_size=hidden,
        intermediate_size=next(filter(None, widths), 4 * hidden),
        num_heads=heads,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        vocab_size=config.vocab_size,
        num_labels=model.config.num_labels,
        gated_mlp=any("gate_proj" in name or "gate_up_proj" in name for name in named),
    )


def lora_shape(shape: ModelShape, *, rank: int = 16) -> ModelShape:
    """The shape with LoRA on every matrix of the layers and a trained copy of the head; as it is, if partly frozen."""
    if shape.trainable_params < shape.num_params:
        return shape
    h, kv = shape.hidden_size, shape.hidden_size // shape.num_heads * shape.num_kv_heads
    layer = 4 * h + 2 * (h + kv) + (3 if shape.gated_mlp else 2) * (h + shape.intermediate_size)
    added = rank * layer * shape.num_layers + shape.num_labels * h
    return replace(shape, num_params=shape.num_params + added, trainable_params=added)


def _activation_bytes(shape: ModelShape, setup: TrainingSetup) -> int:
    h, i, s, width = shape.hidden_size, shape.intermediate_size, setup.sequence_length, setup.activation_bytes
    # 34 h = 11 h (attention) + 4 h (norms) + 3 h + 2 tensors of 4 h features at 2 bytes (MLP); a gated MLP has four.
    layer = 18 * h + 2 * (4 if shape.gated_mlp else 2) * i + (5 * shape.num_heads if setup.stores_scores else 2) * s
    layer = layer * width // 2
    if frozen := shape.num_params - shape.trainable_params:
        layer += ((6 if shape.gated_mlp else 5) * h + i) * setup.trainable_bytes
    layers = h * width * shape.num_layers + layer if setup.checkpointing else layer * shape.num_layers
    ends = (2 * h + shape.num_labels) * width
    wide = frozen * (setup.weight_bytes > width) + shape.trainable_params * (setup.trainable_bytes > width)
    return s * setup.batch_size * (layers + ends) + max(0, wide - shape.vocab_size * h) * width


def plan_memory(shape: ModelShape, setup: TrainingSetup, *, available: int, reserve: float = 0.1) -> MemoryPlan:
    """Bytes that training will need, against ``available`` bytes.

    Parameters, gradients and optimizer states are exact (but for four bits, and without buffers). Activations are an
    estimate: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", s b h (34 + 5 a
    s / h) bytes a layer at two bytes a number. Its MLP term is written out for other widths and gated MLPs: Qwen2's is
    5.8 h, not 4 h. In place of the scores, SDPA keeps a padding mask of s s b numbers a layer. In a partly frozen model
    each adapter keeps its input in ``trainable_bytes``. Checkpointing keeps s b h numbers a layer, and one full layer.
    Added are the last norm, the logits of every token, and the copies autocast keeps of matrices in wider numbers.
    On small real models it is 0.8 to 1.6 of the tensors saved. It counts tensors only: ``reserve`` is the share added
    for the framework's own (gaps between tensors, workspace, gradients passing through).

    Raises:
        ValueError: ``available`` below 1, or ``reserve`` outside 0 to 1.
    """
    _check({"available": available})
    if not 0 <= reserve < 1:
        raise ValueError(f"reserve is {reserve}: give a share of the tensors' bytes, at least 0 and below 1, say 0.1")
    trained, frozen = shape.trainable_params * setup.trainable_bytes, shape.num_params - shape.trainable_params
    # Only matrices are packed in four bits: the embedding table stays at two bytes a number.
    table = min(shape.vocab_size * shape.hidden_size, frozen) if setup.weight_bytes < 2 else 0
    weights = math.ceil((frozen - table) * setup.weight_bytes) + table * 2 + trained
    tensors = (weights, trained, OPTIMIZER_STATES[setup.optimizer] * trained, _activation_bytes(shape, setup))
    return MemoryPlan(shape, setup, *tensors, math.ceil(sum(tensors) * reserve), reserve, available)


def plan_table(plan: MemoryPlan) -> str:
    """The plan as plain text: each kind of tensor in GiB, with its share of the total."""
    rows = [(name, getattr(plan, name)) for name in (*LINES, "total")]
    lines = [f"{name:<12}{value / GIB:>10.2f}{value / plan.total:>9.1%}" for name, value in rows]
    return "\n".join([f"{'':<12}{'GiB':>10}{'share':>9}", *lines, f"{'available':<12}{plan.available / GIB:>10.2f}"])


def changed_plans(plan: MemoryPlan) -> Iterator[tuple[tuple[str, ...], MemoryPlan]]:
    """The names and the plan of each of ``CHANGES``, then of each pair, and so on: the fewest changes first.

    LoRA is of rank 16; bf16 is for frozen weights and activations, and trainable parameters keep their width. Batch and
    text are halved again and again, a plan each; where both are, the batch goes to 1 first.
    """
    for names in chain.from_iterable(combinations(CHANGES, size) for size in range(1, len(CHANGES) + 1)):
        shape, setup = lora_shape(plan.shape) if "lora" in names else plan.shape, plan.setup
        if "bf16" in names:
            setup = replace(setup, weight_bytes=min(setup.weight_bytes, 2), activation_bytes=2)
        if "four_bit" in names:
            setup = replace(setup, weight_bytes=FOUR_BIT_BYTES)
        setup = replace(setup, checkpointing=setup.checkpointing or "checkpointing" in names)
        batches, lengths = [setup.batch_size], [setup.sequence_length]
        if "batch_size" in names:
            batches = [b for n in range(1, 64) if (b := batches[0] >> n)]
        if "max_tokens" in names:
            batches, lengths = batches[-1:], [s for n in range(1, 64) if (s := lengths[0] >> n) >= MIN_TOKENS]
        for b, s in product(batches, lengths):
            changed = replace(setup, batch_size=b, sequence_length=s)
            yield names, plan_memory(shape, changed, available=plan.available, reserve=plan.reserve_share)


def require_fit(plan: MemoryPlan, *, what: str) -> None:
    """Raise ValueError with the sizes, and the first of ``changed_plans`` that fits, unless ``plan`` itself does."""
    if plan.total <= plan.available:
        return
    sizes = ", ".join(f"{name} {getattr(plan, name) / GIB:.2f}" for name in LINES)
    need = f"{what} needs {plan.total / GIB:.2f} GiB ({sizes}), but {plan.available / GIB:.2f} GiB are available."
    names, best = next((c for c in changed_plans(plan) if c[1].total <= plan.available), ((), plan))
    if names:
        texts = ", ".join(CHANGES[name].format(**asdict(best.setup)) for name in names)
        raise ValueError(f"{need} Set {texts}: {best.total / GIB:.2f} GiB")
    rest = f"{min(changed.total for _, changed in changed_plans(plan)) / GIB:.2f} GiB at the least"
    raise ValueError(f"{need} No change of {', '.join(CHANGES)} fits ({rest}): take a smaller model or more memory")


def available_memory(device: str) -> int:
    """Free bytes of a GPU (``cuda``, ``cuda:N``) or of the machine (``cpu``); ValueError for a device not there."""
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    known = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    if f"{device}:0" not in known and device not in known:
        raise ValueError(f"device is {device!r}: set it to one of {', '.join(known)}")
    return int(torch.cuda.mem_get_info(device)[0])

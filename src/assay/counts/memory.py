"""What training a language model as a classifier will need in memory, said before a byte of it is taken."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import psutil
import torch

from assay.params.counts import CountVariant, LlmLora

GIB = 2**30
# Four bits, and one fp32 constant for each block of 64 weights: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of
# Quantized LLMs", section 3. Double quantization would bring it to 0.516; the larger number is planned with.
FOUR_BIT_BYTES = 0.5 + 4 / 64
WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, "4bit": FOUR_BIT_BYTES}
TRAINABLE_BYTES = 4  # of a trainable parameter, its gradient, and each of AdamW's two states
RESERVE = 0.1  # share of the tensors' bytes for gaps between them, workspace, gradients passing through
MIN_TOKENS = 128  # no shorter text is proposed: the question itself would be cut away
LINES = ("parameters", "gradients", "optimizer", "activations", "reserve")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a transformer, counted in parameters (adapters too), layers, features, heads and classes.

    Attributes:
        gated_mlp: the MLP has three matrices (Qwen2), not two (BERT).
        stores_scores: the attention keeps its score matrix (``eager``, and SDPA with dropout on a CPU); SDPA on a GPU
            and flash attention do not.
    """

    num_params: int
    trainable_params: int
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    vocab_size: int
    num_labels: int
    gated_mlp: bool
    stores_scores: bool


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of each kind of tensor, the reserve on top of them, and what there is; with what they were planned for."""

    shape: ModelShape
    settings: CountVariant
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    reserve: int
    available: int

    @property
    def total(self) -> int:
        return sum(getattr(self, name) for name in LINES)


def shape_of(model: Any, *, device: str) -> ModelShape:
    """The shape of a transformers model that is to be trained on ``device``, wrapped by peft or not.

    The model may lie on torch's ``meta`` device. Weights packed in four bits no longer tell their number.
    """
    config, named = model.config.get_text_config(), dict(model.named_parameters())
    widths = [getattr(config, name, None) for name in ("intermediate_size", "hidden_dim", "ffn_dim", "n_inner")]
    return ModelShape(
        num_params=sum(value.numel() for value in named.values()),
        trainable_params=sum(value.numel() for value in named.values() if value.requires_grad),
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=next(filter(None, widths), 4 * config.hidden_size),
        num_heads=config.num_attention_heads,
        vocab_size=config.vocab_size,
        num_labels=model.config.num_labels,
        gated_mlp=any("gate_proj" in name or "gate_up_proj" in name for name in named),
        # BERT drops attention weights in training, and on a CPU their matrix is then kept.
        stores_scores=device == "cpu" and getattr(config, "attention_probs_dropout_prob", 0) > 0,
    )


def _activation_bytes(shape: ModelShape, settings: CountVariant, *, weight_bytes: float) -> int:
    narrow = settings.mixed_precision != "no" or weight_bytes < 4
    width = 2 if narrow else 4
    hidden, tokens = shape.hidden_size, settings.max_tokens
    # 34 h = 11 h (attention) + 4 h (norms) + 3 h + 2 tensors of 4 h features at 2 bytes (MLP); a gated MLP has four.
    mlp = 2 * (4 if shape.gated_mlp else 2) * shape.intermediate_size
    scores = (5 * shape.num_heads if shape.stores_scores else 2) * tokens
    layer = (18 * hidden + mlp + scores) * width // 2
    frozen = shape.num_params - shape.trainable_params
    if frozen:
        adapter_inputs = (6 if shape.gated_mlp else 5) * hidden + shape.intermediate_size
        layer += adapter_inputs * TRAINABLE_BYTES
    if isinstance(settings, LlmLora) and settings.checkpointing:
        layers = hidden * width * shape.num_layers + layer
    else:
        layers = layer * shape.num_layers
    ends = (2 * hidden + shape.num_labels) * width
    wide = frozen * (weight_bytes > width) + shape.trainable_params * (width < TRAINABLE_BYTES)
    copies = max(0, wide - shape.vocab_size * hidden) * width
    return tokens * settings.batch_size * (layers + ends) + copies


def plan_memory(shape: ModelShape, settings: CountVariant, *, available: int) -> MemoryPlan:
    """Bytes that training will need, against ``available`` bytes.

    Parameters, gradients and optimizer states are exact (but for four bits, and without buffers). Activations are an
    estimate: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", s b h (34 + 5 a
    s / h) bytes a layer at two bytes a number. Its MLP term is written out for other widths and gated MLPs: Qwen2's is
    5.8 h, not 4 h. In place of the scores, SDPA keeps a padding mask of s s b numbers a layer. In a partly frozen model
    each adapter keeps its input in fp32. Checkpointing keeps s b h numbers a layer, and one full layer. Added are the
    last norm, the logits of every token, and the copies autocast keeps of matrices in wider numbers. On small real
    models it is 0.8 to 1.6 of the tensors saved.
    """
    weight_bytes = WEIGHT_BYTES[settings.weights_dtype] if isinstance(settings, LlmLora) else 4.0
    trained = shape.trainable_params * TRAINABLE_BYTES
    frozen = shape.num_params - shape.trainable_params
    # Only matrices are packed in four bits: the embedding table stays at two bytes a number.
    table = min(shape.vocab_size * shape.hidden_size, frozen) if weight_bytes < 2 else 0
    weights = math.ceil((frozen - table) * weight_bytes) + table * 2 + trained
    activations = _activation_bytes(shape, settings, weight_bytes=weight_bytes)
    tensors = (weights, trained, 2 * trained, activations)
    return MemoryPlan(shape, settings, *tensors, math.ceil(sum(tensors) * RESERVE), available)


def plan_table(plan: MemoryPlan) -> str:
    """The plan as plain text: each kind of tensor in GiB, with its share of the total."""
    rows = [(name, getattr(plan, name)) for name in (*LINES, "total")]
    lines = [f"{name:<12}{value / GIB:>10.2f}{value / plan.total:>9.1%}" for name, value in rows]
    return "\n".join([f"{'':<12}{'GiB':>10}{'share':>9}", *lines, f"{'available':<12}{plan.available / GIB:>10.2f}"])


def _halved(name: str, value: int, *, least: int) -> list[dict[str, Any]]:
    """Settings ``name`` at a half of ``value``, a quarter, and so on down to ``least``."""
    halves = (value >> times for times in range(1, value.bit_length()))
    return [{name: half} for half in halves if half >= least]


def savings(settings: CountVariant) -> Iterator[dict[str, Any]]:
    """Changes of the settings that may save memory: each alone, then all up to each, what costs least quality first."""
    steps: list[dict[str, Any]] = []
    last: list[dict[str, Any]] = []
    if isinstance(settings, LlmLora):
        steps += [{"weights_dtype": "bfloat16"}] if settings.weights_dtype == "float32" else []
        steps += [{"checkpointing": True}] if not settings.checkpointing else []
        last += [{"weights_dtype": "4bit"}] if settings.weights_dtype != "4bit" else []
    elif settings.mixed_precision == "no":
        steps += [{"mixed_precision": "bf16"}]
    steps += _halved("batch_size", settings.batch_size, least=1)
    steps += last
    steps += _halved("max_tokens", settings.max_tokens, least=MIN_TOKENS)
    return chain(steps, accumulate(steps, operator.or_))


def require_fit(plan: MemoryPlan, *, what: str) -> None:
    """Raise ValueError with the sizes, and the first of the `savings` that fits, unless ``plan`` itself does."""
    if plan.total <= plan.available:
        return
    sizes = ", ".join(f"{name} {getattr(plan, name) / GIB:.2f}" for name in LINES)
    need = f"{what} needs {plan.total / GIB:.2f} GiB ({sizes}), but {plan.available / GIB:.2f} GiB are available."
    least = plan.total
    for changes in savings(plan.settings):
        smaller = plan_memory(plan.shape, plan.settings.model_copy(update=changes), available=plan.available)
        if smaller.total <= plan.available:
            texts = ", ".join(f"{name} {str(value).lower()}" for name, value in changes.items())
            raise ValueError(f"{need} Set {texts}: {smaller.total / GIB:.2f} GiB")
        least = min(least, smaller.total)
    raise ValueError(
        f"{need} No smaller setting fits ({least / GIB:.2f} GiB at the least): take a smaller model or more memory"
    )


def available_memory(device: str) -> int:
    """Free bytes of a GPU (``cuda``, ``cuda:N``) or of the machine (``cpu``)."""
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    return int(torch.cuda.mem_get_info(device)[0])

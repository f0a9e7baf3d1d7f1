"""Language models with a head for counts: built from a folder, planned before they are loaded, saved and read back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coral_pytorch.layers import CoralLayer
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
from transformers.utils import logging

from assay.core.io import read_json, write_json
from assay.core.pretrained import load_model, load_peft, load_pretrained
from assay.core.tensors import save_tensors
from assay.counts.memory import MemoryPlan, available_memory, plan_memory, shape_of
from assay.params.counts import CountVariant, EncoderVariant, LlmLora, Ordinal
from assay.training.networks import (
    batched_logits,
    check_positions,
    folder_hashes,
    loading_options,
    positions_of,
    read_tokenizer,
)
from assay.training.prefixes import beginnings

RECORD = "variant.json"
WEIGHTS = "model.safetensors"
BATCH, EMBEDDED_TOKENS = 32, 128
# The report of newly made heads; that the head is new is the point here.
logging.set_verbosity_error()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, padding on the right.

    Raises:
        ValueError: none there.
    """
    tokenizer = read_tokenizer(folder)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _with_head(model: Any, settings: CountVariant, num_outputs: int) -> Any:
    """CORAL's head has one weight vector and a bias per threshold."""
    if isinstance(settings, Ordinal) and settings.loss == "coral":
        if not isinstance(getattr(model, "classifier", None), nn.Linear):
            raise ValueError(f"train_counts.ordinal.loss coral: {type(model).__name__} has no linear head; use corn")
        model.classifier = CoralLayer(model.classifier.in_features, num_outputs + 1)
    return model


def _config(base: Path, settings: CountVariant, *, num_outputs: int) -> Any:
    """The config in ``base``, with as many outputs and layers as asked for."""
    config = load_pretrained(AutoConfig, base, num_labels=num_outputs)
    if isinstance(settings, LlmLora) and settings.num_layers is not None:
        # What tells of a text is no worse in the middle of a causal model than at its end, where the next word is made
        # (Skean et al. 2025, "Layer by Layer: Uncovering Hidden Representations in Language Models").
        if settings.num_layers > config.num_hidden_layers:
            raise ValueError(
                f"train_counts.llm_lora.num_layers {settings.num_layers}: {base} has {config.num_hidden_layers}; or set null"
            )
        config.num_hidden_layers = settings.num_layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: settings.num_layers]
    return config


def _classifier(base: Path, settings: CountVariant, *, num_outputs: int, pad_token_id: int) -> Any:
    """A sequence classifier on the pretrained weights in ``base``; its head has torch's random values."""
    weights_dtype = settings.weights_dtype if isinstance(settings, LlmLora) else "float32"
    options = loading_options(weights_dtype, field="train_counts.llm_lora.weights_dtype")
    config = _config(base, settings, num_outputs=num_outputs)
    model = load_model(AutoModelForSequenceClassification, base, config=config, **options)
    model.config.pad_token_id = pad_token_id
    return model


def freeze_lowest(model: Any, num_layers: int) -> None:
    """Keep the embeddings and the ``num_layers`` lowest layers as they are.

    Raises:
        ValueError: a network without such layers, or with fewer.
    """
    body = getattr(model, model.base_model_prefix)
    layers = getattr(getattr(body, "encoder", None), "layer", None)
    if layers is None or not hasattr(body, "embeddings") or num_layers > len(layers):
        have = 0 if layers is None else len(layers)
        raise ValueError(f"frozen_layers {num_layers}: {type(model).__name__} has {have} layers to freeze; or set null")
    for part in (body.embeddings, *layers[:num_layers]):
        part.requires_grad_(False)


def _prepared(model: Any, settings: CountVariant, *, num_outputs: int) -> Any:
    """Adapters, head and frozen layers as the settings ask."""
    if isinstance(settings, LlmLora):
        # Adapters on the named linear layers; the new head is trained in full.
        names = "|".join(re.escape(name) for name in settings.target_modules)
        adapters = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            # As a pattern: peft keeps a list as a set, and would write it in an order that changes with the hash seed.
            target_modules=rf".*\.({names})",
        )
        return get_peft_model(model, adapters)
    check_positions(model.base_model, max_tokens=settings.max_tokens)
    model = _with_head(model, settings, num_outputs)
    if isinstance(settings, EncoderVariant) and settings.frozen_layers is not None:
        freeze_lowest(model, settings.frozen_layers)
    return model


def build_network(base: Path, settings: CountVariant, *, num_outputs: int, pad_token_id: int, seed: int) -> Any:
    """A sequence classifier on the pretrained weights in ``base``; with LoRA for the variant that asks for it.

    Raises:
        ValueError: a head or quantisation that can't be had, or texts longer than the network has positions for.
    """
    torch.manual_seed(seed)  # the head's first values
    model = _classifier(base, settings, num_outputs=num_outputs, pad_token_id=pad_token_id)
    return _prepared(model, settings, num_outputs=num_outputs)


def memory_plan(base: Path, settings: CountVariant, *, num_outputs: int, device: str) -> MemoryPlan:
    """What training the variant will need, from its config alone: no weight is loaded."""
    config = _config(base, settings, num_outputs=num_outputs)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        model = _prepared(model, settings, num_outputs=num_outputs)
    return plan_memory(shape_of(model, device=device), settings, available=available_memory(device))


def save_network(folder: Path, model: Any, tokenizer: Any, *, base: Path, record: dict[str, Any]) -> None:
    """Write weights (of the adapter and head alone where there is one), tokenizer and ``variant.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    adapter = isinstance(model, PeftModel)
    if adapter:
        model.save_pretrained(folder)
        record = record | {"base": base.as_posix(), "base_sha256": folder_hashes(base, "*.safetensors")}
    else:
        model.config.save_pretrained(folder)
        save_tensors(folder / WEIGHTS, model.state_dict())
    write_json(folder / RECORD, record | {"adapter": adapter})


def read_record(folder: Path) -> dict[str, Any]:
    """``variant.json`` of a trained variant.

    Raises:
        ValueError: none there.
    """
    if not (folder / RECORD).is_file():
        raise ValueError(f"no {RECORD} in {folder}: run dvc repro train_counts@{folder.name}, or name another variant")
    record: dict[str, Any] = read_json(folder / RECORD)
    return record


def load_network(folder: Path, settings: CountVariant, *, num_outputs: int) -> Any:
    """The network that ``save_network`` wrote, in evaluation mode. Runs no code from the files.

    Raises:
        ValueError: files missing or not fitting each other, or an adapter on another base model than it was trained on.
    """
    record = read_record(folder)
    if record["adapter"]:
        base = Path(record["base"])
        if folder_hashes(base, "*.safetensors") != record["base_sha256"]:
            raise ValueError(f"{folder}: its adapter was trained on other weights than {base} holds; train it again")
        pad_token_id = load_tokenizer(folder).pad_token_id
        model = _classifier(base, settings, num_outputs=num_outputs, pad_token_id=pad_token_id)
        return load_peft(PeftModel, folder, model)
    config = load_pretrained(AutoConfig, folder)
    model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    check_positions(model.base_model, max_tokens=settings.max_tokens)
    model = _with_head(model, settings, num_outputs)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: weights are missing or do not fit its config: {error}") from error
    return model.eval()


def network_outputs(model: Any, tokenizer: Any, texts: list[str], *, max_tokens: int, what: str) -> np.ndarray:
    """Outputs float32 [n, k] of the network, in the order of ``texts`` (n > 0); longer texts are truncated."""
    begun = beginnings(tokenizer, texts, max_tokens=max_tokens)
    ids = tokenizer(begun, truncation=True, max_length=max_tokens)["input_ids"]
    return batched_logits(model, tokenizer, ids, what=what, batch_size=BATCH)


class MeanPooled(nn.Module):
    """A frozen encoder that gives each text's embedding in the place of logits: the mean over its tokens, of length 1."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.body = load_model(AutoModel, folder, dtype=torch.float32)

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Embeddings [n, hidden_size] under ``logits``."""
        hidden, mask = self.body(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        return {"logits": functional.normalize((hidden * mask).sum(dim=1), dim=1)}


def embed_questions(folder: Path, questions: list[str], *, device: str) -> np.ndarray:
    """Embeddings float32 [n, hidden_size] of questions by the encoder in ``folder`` as it is, of their first tokens."""
    model = MeanPooled(folder).to(device)
    length = min(EMBEDDED_TOKENS, positions_of(model.body) or EMBEDDED_TOKENS)
    return network_outputs(model, load_tokenizer(folder), questions, max_tokens=length, what="questions")

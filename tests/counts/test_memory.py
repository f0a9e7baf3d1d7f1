"""The memory plan against real models: counted bytes, measured activations, and settings that then do fit."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, BertConfig, Qwen2Config

from assay.core.params import load, validate
from assay.counts.memory import (
    GIB,
    MemoryPlan,
    ModelShape,
    available_memory,
    plan_memory,
    plan_table,
    require_fit,
    savings,
    shape_of,
)
from assay.params.counts import Counts, CountVariant
from assay.params.schema import validate_file

CARD = 24 * GIB
ROOT = Path(__file__).parents[2]
VARIANTS = load(Counts, ROOT / "params.yaml").train_counts
SIZES = {"batch_size": 8, "max_tokens": 1024, "mixed_precision": "no"}
FULL = VARIANTS.quantile.model_copy(update=SIZES)
LORA = VARIANTS.llm_lora.model_copy(update=SIZES | {"weights_dtype": "float32", "checkpointing": False})
FRUGAL = LORA.model_copy(update={"weights_dtype": "bfloat16", "checkpointing": True})


def qwen_config(**changes: Any) -> Any:
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 746, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 500, "num_labels": 3} | changes
    return Qwen2Config(pad_token_id=0, **sizes)


def build(config: Any, **more: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config, **more)


def with_lora(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=16, task_type="SEQ_CLS", target_modules="all-linear"))


def qwen_1_5b() -> Any:
    sizes = {"hidden_size": 1536, "num_hidden_layers": 28, "intermediate_size": 8960, "num_attention_heads": 12}
    with torch.device("meta"):
        return build(qwen_config(vocab_size=151936, num_labels=1, tie_word_embeddings=True, **sizes))


@pytest.fixture(scope="module")
def big():
    return shape_of(qwen_1_5b(), device="cuda")


@pytest.fixture(scope="module")
def adapted():
    """The same with LoRA on every linear layer."""
    with torch.device("meta"):
        return shape_of(with_lora(qwen_1_5b()), device="cuda")


def plan(shape: ModelShape, settings: CountVariant, available: int = CARD, **changes: Any) -> MemoryPlan:
    return plan_memory(shape, settings.model_copy(update=changes), available=available)


def message(refused: MemoryPlan) -> str:
    with pytest.raises(ValueError, match=r"^counts model needs .* GiB are available") as error:
        require_fit(refused, what="counts model")
    return str(error.value)


def batch(config: Any, *, size: int = 4, length: int = 256) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, config.vocab_size, (size, length), generator=torch.Generator().manual_seed(0))
    ids[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.zeros(size, dtype=torch.long)}


def saved_bytes(model: Any, inputs: dict[str, torch.Tensor], *, autocast: bool) -> int:
    """Bytes of the storages that the backward pass would need, without the model's own."""
    own = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers()]}
    seen = {}
    held = []

    def pack(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            held.append(value)  # a storage given back could lend its address to another
            seen[storage.data_ptr()] = storage.nbytes()
        return value

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        model.train()(**inputs)
    return sum(seen.values())


def test_the_shape_of_the_real_architecture_is_read_without_its_weights(big, adapted):
    assert adapted.trainable_params == adapted.num_params - big.num_params == 18_466_304
    sizes = {"num_layers": 28, "hidden_size": 1536, "intermediate_size": 8960, "num_heads": 12, "vocab_size": 151936}
    sizes |= dict.fromkeys(("num_params", "trainable_params"), 1_543_715_840)
    assert big == ModelShape(num_labels=1, gated_mlp=True, stores_scores=False, **sizes)


def test_full_fp32_training_takes_16_bytes_a_parameter_and_no_24_gib_card_holds_it(big, adapted):
    full = plan(big, FULL)
    assert full.parameters + full.gradients + full.optimizer == 16 * big.num_params
    assert full.total > CARD
    assert full.reserve == pytest.approx(0.1 * (16 * big.num_params + full.activations))
    frugal = plan(adapted, FRUGAL)
    assert frugal.total < min(full.total / 10, CARD / 2)
    require_fit(frugal, what="counts model")
    full_size = validate(Counts, validate_file(ROOT / "params/full.yaml", base=ROOT / "params.yaml"))
    assert plan(adapted, full_size.train_counts.llm_lora).total < CARD / 2


@pytest.mark.parametrize(
    ("settings", "available", "expected"),
    [
        (LORA, CARD, {"checkpointing": True}),
        (LORA.model_copy(update={"batch_size": 1}), 5 * GIB, {"weights_dtype": "bfloat16", "checkpointing": True}),
        (FRUGAL.model_copy(update={"batch_size": 600}), CARD, {"batch_size": 37}),
        (FRUGAL.model_copy(update={"batch_size": 1, "max_tokens": 4096}), 3 * GIB, {"weights_dtype": "4bit"}),
    ],
)
def test_the_message_names_the_first_change_that_then_fits(adapted, settings, available, expected):
    said = message(plan(adapted, settings, available))
    texts = ", ".join(f"{name} {str(value).lower()}" for name, value in expected.items())
    after = plan(adapted, settings, **expected).total
    assert after <= available
    assert said.endswith(f"but {available / GIB:.2f} GiB are available. Set {texts}: {after / GIB:.2f} GiB")
    for step in itertools.takewhile(lambda step: step != expected, savings(settings)):
        assert plan(adapted, settings, **step).total > available, step


def test_changes_are_tried_alone_then_together_and_only_those_that_the_variant_has():
    small = {"batch_size": 2, "max_tokens": 300}
    steps = [{"mixed_precision": "bf16"}, {"batch_size": 1}, {"max_tokens": 150}]
    assert list(savings(FULL.model_copy(update=small)))[:4] == [*steps, steps[0]]
    assert list(savings(FULL.model_copy(update=small)))[-1] == steps[0] | steps[1] | steps[2]
    lora = list(savings(LORA.model_copy(update=small)))
    assert lora[:2] == [{"weights_dtype": "bfloat16"}, {"checkpointing": True}]
    # Four bits and shorter texts cost quality: they come last.
    assert lora[-1] == {"weights_dtype": "4bit", "checkpointing": True, "batch_size": 1, "max_tokens": 150}


def test_what_no_setting_brings_below_the_limit_is_said_plainly(adapted):
    tight = plan(adapted, FRUGAL, available=GIB // 2)
    least = min(plan(adapted, FRUGAL, **step).total for step in savings(FRUGAL))
    assert f"No smaller setting fits ({least / GIB:.2f} GiB at the least): take a smaller model" in message(tight)


def test_four_bits_leave_the_embedding_table_at_two_bytes(big, adapted):
    table = big.vocab_size * big.hidden_size
    frozen = adapted.num_params - adapted.trainable_params
    packed = plan(adapted, FRUGAL, weights_dtype="4bit")
    assert packed.parameters - 4 * adapted.trainable_params == pytest.approx((frozen - table) * 0.5625 + 2 * table)


def test_autocast_keeps_a_narrow_copy_of_every_wider_matrix_but_not_of_the_embedding_table(adapted):
    wide = plan(adapted, LORA, mixed_precision="bf16").activations
    narrow = plan(adapted, LORA, weights_dtype="bfloat16").activations
    # Of the adapters and the head, in fp32, a narrow copy is kept in both.
    frozen, table = adapted.num_params - adapted.trainable_params, adapted.vocab_size * adapted.hidden_size
    assert wide - narrow == 2 * (frozen - (table - adapted.trainable_params))


def test_more_of_anything_is_more_and_checkpointing_is_less(big):
    base = plan(big, LORA)
    scores = replace(big, stores_scores=True)
    for more in (plan(big, LORA, batch_size=9), plan(big, LORA, max_tokens=1025), plan(scores, LORA)):
        assert more.activations > base.activations
        assert (more.parameters, more.gradients, more.optimizer) == (base.parameters, base.gradients, base.optimizer)
    assert plan(big, LORA, batch_size=16).activations == 2 * base.activations
    assert plan(big, LORA, checkpointing=True).activations < base.activations / 10


def test_the_published_number_for_a_plain_transformer():
    s, b, h, a = 128, 2, 64, 4
    sizes = {"num_layers": 1, "hidden_size": h, "intermediate_size": 4 * h, "num_heads": a, "vocab_size": 100}
    # No more than the embedding table, of which no narrow copy is kept.
    sizes |= dict.fromkeys(("num_params", "trainable_params"), 6400)
    shape = ModelShape(num_labels=2, gated_mlp=False, stores_scores=True, **sizes)
    planned = plan(shape, FULL, batch_size=b, max_tokens=s, mixed_precision="bf16").activations
    ends = s * b * (2 * h + 2) * 2
    assert planned - ends == s * b * h * (34 + 5 * a * s / h)


@pytest.mark.parametrize("kind", ["bert", "qwen", "qwen-lora"])
def test_parameters_gradients_and_states_are_those_of_a_real_step(kind):
    if kind == "bert":
        config = BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
    else:
        config = qwen_config(hidden_size=64, num_hidden_layers=2, intermediate_size=128)
    model = with_lora(build(config)) if kind == "qwen-lora" else build(config)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad])
    model.train()(**batch(config, size=2, length=16)).loss.backward()
    optimizer.step()
    shape = shape_of(model, device="cpu")
    assert shape.gated_mlp == (kind != "bert")
    planned = plan(shape, LORA)
    assert planned.parameters == sum(value.nbytes for value in model.parameters())
    assert planned.gradients == sum(value.grad.nbytes for value in model.parameters() if value.grad is not None)
    states = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert planned.optimizer == sum(value.nbytes for value in states)


@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        *((kind, "sdpa") for kind in ("fp32", "autocast", "lora-fp32", "lora-bf16", "checkpointing", "bert")),
        *((kind, "eager") for kind in ("autocast", "lora-bf16", "bert")),
    ],
)
def test_the_activations_are_within_a_factor_of_two_of_the_saved_tensors(kind, attention):
    config = qwen_config()
    if kind == "bert":
        config = BertConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512)
    model = build(config, attn_implementation=attention)
    if kind == "lora-bf16":
        model = model.bfloat16()
    if kind.startswith("lora"):
        model = with_lora(model)
    if kind == "checkpointing":
        model.gradient_checkpointing_enable()
    measured = saved_bytes(model, batch(config), autocast=kind == "autocast")
    shape = shape_of(model, device="cpu")
    assert shape.stores_scores == (kind == "bert")  # it has attention dropout: SDPA on a CPU stores them
    shape = replace(shape, stores_scores=shape.stores_scores or attention == "eager")
    changes = {"weights_dtype": "bfloat16"} if kind == "lora-bf16" else {}
    changes |= {"mixed_precision": "bf16"} if kind == "autocast" else {}
    settings = LORA.model_copy(update={"batch_size": 4, "max_tokens": 256} | changes)
    planned = plan(shape, settings, checkpointing=kind == "checkpointing").activations
    if kind == "checkpointing":  # the one full layer comes on the way back, after what is saved here
        one, two = (plan(replace(shape, num_layers=n), settings).activations for n in (1, 2))
        planned -= two - one
    assert measured / 2 < planned < measured * 2


def test_the_table_shows_every_line_in_gib_with_its_share(big):
    head, *lines = [line.split() for line in plan_table(plan(big, FULL)).splitlines()]
    names = ["parameters", "gradients", "optimizer", "activations", "reserve", "total", "available"]
    assert head == ["GiB", "share"]
    assert [line[0] for line in lines] == names
    assert [lines[number][1] for number in (0, 2, 6)] == ["5.75", "11.50", "24.00"]
    assert lines[5][2] == "100.0%"
    assert sum(float(line[2][:-1]) for line in lines[:5]) == pytest.approx(100, abs=0.3)


def test_the_memory_of_a_device(monkeypatch):
    assert 0 < available_memory("cpu") < psutil.virtual_memory().total
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7 if device == "cuda:1" else 5, 9))
    assert (available_memory("cuda"), available_memory("cuda:1")) == (5, 7)

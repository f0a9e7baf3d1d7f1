"""The gate between vision tower and language model: what it leaves at the start, what it changes, what is saved of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from assay.core.io import write_json
from assay.params.vlm import AmplifierSettings
from assay.vlm.amplifier import Amplifier, danger_loss
from assay.vlm.examples import Examples, danger_of, encode
from assay.vlm.network import RECORD, add_adapter, load_adapter, manifest
from assay.vlm.prompts import Prompt
from assay.vlm.scoring import answer_log_probs, answer_tokens
from assay.vlm.training import Collator, Weighted, train, training_arguments

PROMPT = Prompt("S", "?", ("a", "b"), ("a", "b"), ("a", "b"))
TEXTS = ("input_ids", "attention_mask", "mm_token_type_ids")
KINDS = {
    "amplify": {"amplify": True, "attend": False, "danger_weight": 0.0},
    "attend": {"amplify": False, "attend": True, "danger_weight": 0.5},
    "both": {"amplify": True, "attend": True, "danger_weight": 0.5},
}


def gate(kind: str) -> AmplifierSettings:
    return AmplifierSettings(width=8, groups=4, limit=4.0, **KINDS[kind])


@torch.no_grad()
def awake(model, *, seed: int = 0):
    """Gates that matter: they begin by changing nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if "amplifier.modules_to_save" in name and ".up." in name:
            torch.nn.init.normal_(value, std=0.5, generator=generator)
        if "amplifier.modules_to_save" in name and name.endswith("strength"):
            value.fill_(2.0)
    return model


def log_probs(model, batch, processor, answers=("高", "低", "非")) -> torch.Tensor:
    return answer_log_probs(model.eval(), batch, answer_tokens(processor.tokenizer, answers))


def first_image(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    grid = batch["image_grid_thw"][:1]
    return {"image_grid_thw": grid, "pixel_values": batch["pixel_values"][: int(grid.prod())]}


@pytest.fixture
def asked(padded, make_records, encoded) -> dict[str, torch.Tensor]:
    """Three images of other sizes, so that of other numbers of tokens, with padding."""
    return padded(encoded(make_records([None] * 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_works_on_bfloat16_weights_without_autocast(load_network, default_tuning, asked, processor, kind):
    found = []
    for dtype in ("float32", "bfloat16"):
        model = awake(add_adapter(load_network(dtype=dtype), default_tuning, amplifier=gate(kind), seed=0))
        found.append(log_probs(model, asked, processor).float())
    assert torch.allclose(*found, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_gate_changes_nothing_and_one_that_is_awake_does(load_network, default_tuning, asked, processor, kind):
    plain = log_probs(add_adapter(load_network(), default_tuning, seed=0), asked, processor)
    model = add_adapter(load_network(), default_tuning, seed=0, amplifier=gate(kind))
    assert (log_probs(model, asked, processor) - plain).abs().max() < 1e-5
    assert torch.equal(model.amplifying.marks(), torch.zeros(int(asked["mm_token_type_ids"].sum())))
    changed = log_probs(awake(model), asked, processor)
    assert (changed - plain).abs().max() > 1e-3
    assert model.amplifying.marks().abs().max() > 0.01
    # A picture's gate does not hang on what else is in the batch.
    marks = model.amplifying.marks()
    alone = log_probs(model, {name: asked[name][:1] for name in TEXTS} | first_image(asked), processor)
    assert torch.allclose(alone[0], changed[0], atol=1e-4)
    assert torch.allclose(model.amplifying.marks(), marks[: len(model.amplifying.marks())], atol=1e-5)


def test_factors_are_of_channel_groups_within_the_limits_and_an_images_own():
    module = Amplifier(gate("both"), hidden_size=32, num_heads=2)
    torch.nn.init.normal_(module.up.weight, std=50.0)
    tokens, counts = torch.randn(9, 32), torch.tensor([4, 5])
    factors, gates, strength = module(tokens, counts)
    assert factors.shape == tokens.shape
    assert gates.shape == (9, 4)
    assert strength.shape == (2,)
    groups = factors.view(9, 4, 8)
    assert torch.equal(groups, groups[..., :1].expand_as(groups))
    assert 0.25 - 1e-6 <= float(factors.min()) < 0.5
    assert 2 < float(factors.max()) <= 4 + 1e-6
    assert torch.allclose(module(tokens[:4], counts[:1])[1], gates[:4], atol=1e-5)
    with pytest.raises(ValueError, match=r"amplifier\.groups must divide the network's hidden size 30, got 4"):
        Amplifier(gate("both"), hidden_size=30, num_heads=2)


def test_attention_goes_to_marked_tokens(load_network, default_tuning, asked, processor):
    model = awake(add_adapter(load_network(), default_tuning, seed=0, amplifier=gate("attend")))
    model.get_base_model().model.language_model.config._attn_implementation = "eager"
    seen = {}
    for strength in (0.0, 4.0):
        model.get_base_model().model.amplifier.modules_to_save["default"].strength.data.fill_(strength)
        with torch.no_grad():
            found = model(
                **{name: asked[name] for name in asked if name not in ("labels", "logits_to_keep")},
                output_attentions=True,
            )
        marks = torch.zeros(asked["input_ids"].shape)
        marks[asked["mm_token_type_ids"] == 1] = model.amplifying.marks()
        seen[strength] = float((found.attentions[0][:, :, -1] * marks[:, None]).sum(-1).mean())
        assert (found.attentions[0][:, :, -1].sum(-1) - 1).abs().max() < 1e-5
        assert (
            float(found.attentions[0][:, :, -1][asked["attention_mask"][:, None].expand(-1, 2, -1) == 0].abs().max())
            == 0
        )
    assert seen[4.0] > seen[0.0] + 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_longer_answers_go_on_from_the_cache_as_without_one(
    load_network, default_tuning, make_records, padded, encoded, processor, kind
):
    model = awake(add_adapter(load_network(), default_tuning, seed=0, amplifier=gate(kind))).eval()
    answers = ["没有风险", "左边柜子、中间火"]
    batch = padded(encoded(make_records([None] * 3)))
    found = log_probs(model, batch, processor, answers)
    for column, answer in enumerate(answers):
        whole = padded(encoded(make_records([answer] * 3)))
        with torch.no_grad():
            logits = model(**{name: whole[name] for name in whole if name not in ("labels", "logits_to_keep")}).logits
        tokens = answer_tokens(processor.tokenizer, answers)[column]
        start = (whole["labels"] != -100).float().argmax(dim=1)
        for row in range(3):
            said = logits[row, start[row] - 1 : start[row] - 1 + len(tokens)].double().log_softmax(-1)
            expected = said[torch.arange(len(tokens)), torch.tensor(tokens)].sum()
            assert float(found[row, column]) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("train_vision", [False, True])
def test_a_gate_is_trained_saved_beside_the_adapter_and_loaded(
    load_network, default_tuning, processor, make_records, asked, tmp_path, base_folder, processor_folder, train_vision
):
    tuning = default_tuning.model_copy(
        update={"epochs": 2.0, "batch_size": 4, "lr": 0.01, "train_vision": train_vision}
    )
    model = add_adapter(load_network(), tuning, seed=0, amplifier=gate("both"))
    records = [record | {"danger": [[0.0, 0.0, 0.5, 1.0]]} for record in make_records(["高", "低"] * 4)]
    rows = Weighted(Examples(records, processor, root=Path(), max_pixels=10**6))
    arguments = training_arguments(tuning, tmp_path / "run", num_rows=8, seed=0, order_seed=0, cpu=True, workers=0)
    folder, pad_token_id = tmp_path / "adapter", processor.tokenizer.pad_token_id
    history = train(model, rows, arguments, pad_token_id=pad_token_id, name="gate", danger_weight=0.5, save_to=folder)
    assert history[-1]["loss"] < history[0]["loss"]
    weights = load_file(folder / "adapter_model.safetensors")
    assert {name.split("amplifier.")[1] for name in weights if "amplifier" in name} >= {"up.weight", "strength"}
    record = manifest(
        base_folder, processor_folder, PROMPT.to_json(), model=model, weights_dtype="float32", amplifier=gate("both")
    )
    write_json(folder / RECORD, record)
    loaded = load_adapter(folder, load_network())
    assert torch.equal(log_probs(loaded, asked, processor), log_probs(model, asked, processor))
    assert loaded.amplifying.marks().abs().max() > 0
    assert torch.equal(loaded.amplifying.marks(), model.amplifying.marks())


def test_marks_learn_where_the_danger_is(load_network, default_tuning, processor, make_records, encoded):
    """From the loss on marks alone: a token's place is in no gate, so that the danger is where the image is bright."""
    rng = np.random.default_rng(0)
    rows = []
    for record in make_records(["高"] * 8):
        image = rng.integers(0, 60, (56, 56, 3), dtype=np.uint8)
        left = int(rng.integers(2)) * 28
        image[:, left : left + 28] += 180
        rows.append(encode(processor, record | {"danger": [[left / 56, 0.0, (left + 28) / 56, 1.0]]}, image))
    batch = Collator(processor.tokenizer.pad_token_id)([{"example": row, "weight": 1.0} for row in rows])
    model = add_adapter(load_network(), default_tuning, seed=0, amplifier=gate("both"))
    danger, counts = batch.pop("danger"), batch.pop("counts")
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "weights", "logits_to_keep")}
    optimizer = torch.optim.Adam(
        [value for name, value in model.named_parameters() if "amplifier.modules" in name], 0.03
    )
    for _ in range(60):
        model(**inputs)
        loss = danger_loss(model.amplifying.gates, danger, counts) / len(counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    marks = model.amplifying.marks().detach()
    assert float(marks[danger == 1].mean()) > float(marks[danger == 0].mean()) + 0.3


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (None, [np.nan] * 6),
        ([], [0.0] * 6),
        ([[0.0, 0.0, 1.0, 1.0]], [1.0] * 6),
        # The left column of two rows by three; then a twelfth of the upper right token, of which 0.3 would count as all.
        ([[0.0, 0.0, 1 / 3, 1.0]], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
        ([[0.75, 0.0, 0.875, 0.125]], [0.0, 0.0, 3 * 2 / 64 / 0.3, 0.0, 0.0, 0.0]),
    ],
)
def test_danger_of_a_token_is_how_much_of_its_part_a_box_covers(boxes, expected):
    record = {} if boxes is None else {"danger": boxes}
    found = danger_of(record, torch.tensor([1, 4, 6]), 2)
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), expected, equal_nan=True, atol=1e-6)


def test_the_loss_on_marks_is_a_mean_over_each_image_and_skips_what_is_not_known():
    gates = torch.tensor([[2.0, 0.0], [0.0, 0.0], [-1.0, -1.0], [9.0, 9.0]])
    danger = torch.tensor([1.0, 0.0, 0.5, torch.nan])
    counts = torch.tensor([2, 1, 1])
    softplus = torch.nn.functional.softplus
    one = (softplus(torch.tensor(-1.0)) + softplus(torch.tensor(0.0))) / 2
    two = 0.5 * softplus(torch.tensor(1.0)) + 0.5 * softplus(torch.tensor(-1.0))
    assert float(danger_loss(gates, danger, counts)) == pytest.approx(float(one + two), rel=1e-6)

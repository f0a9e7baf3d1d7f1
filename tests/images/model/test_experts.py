"""Experts: both real architectures from a step of training to the extractor, and where their heads start."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm import get_pretrained_cfg
from torch import nn

from assay.images.model.backbones import Checkpoint, DataConfig, save_checkpoint
from assay.images.model.experts import (
    ExpertNetwork,
    FeatureExtractor,
    build_expert,
    initial_state,
    load_extractor,
    load_start,
)
from assay.images.model.transforms import SRM_LIMIT, Normalize, Residuals

TINY, SIDE, DIM = "mobilenetv3_small_050", 32, 8


def images(num: int, side: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (num, 3, side, side), dtype=torch.uint8, generator=torch.manual_seed(seed))


def tiny(*, seed: int = 0) -> tuple[ExpertNetwork, DataConfig]:
    torch.manual_seed(seed)
    return build_expert(TINY, weights={}, image_size=SIDE, embedding_dim=DIM)


def save(folder: Path, network: ExpertNetwork, config: DataConfig, architecture: str = TINY) -> None:
    info = {"embedding_dim": network.projection.shape[1]}
    save_checkpoint(folder, network.state_dict(), architecture=architecture, data_config=config, info=info)


def one_step(network: ExpertNetwork, config: DataConfig, batch: torch.Tensor) -> float:
    labels = torch.arange(len(batch)).remainder(2).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.train()
    logits = network(Normalize(config.mean, config.std)(batch)).squeeze(1)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("architecture", ["tf_efficientnetv2_b3.in21k_ft_in1k", "maxvit_tiny_tf_224.in1k"])
def test_a_real_architecture_trains_saves_loads_and_extracts(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, config = build_expert(architecture, weights={}, image_size=64, embedding_dim=256)
    published = get_pretrained_cfg(architecture)
    assert (config.image_size, config.mean, config.std) == (64, published.mean, published.std)
    init = tmp_path / "init.safetensors"
    save_file(initial_state(architecture, weights={}, image_size=64, embedding_dim=256, seed=7), init)
    load_start(network, init)
    batch = images(4, 64)
    before = {name: value.clone() for name, value in network.named_parameters()}
    # A head at zero passes nothing back: the backbone learns from the second step on.
    assert np.isfinite([one_step(network, config, batch) for _ in range(2)]).all()
    still = [name for name, value in network.named_parameters() if torch.equal(value, before[name])]
    assert not {name.split(".")[0] for name in still} & {"head"}
    assert torch.equal(network.projection, load_file(init)["projection"]), "it is not trained"
    assert len(still) < 0.1 * len(before), "the step moved the backbone too"

    embedding, logit = FeatureExtractor(Checkpoint(network, config, {}))(batch)
    save(tmp_path / "model", network, config, architecture)
    loaded = load_extractor(tmp_path / "model", device="cpu")
    found = loaded(batch)
    assert (found[0].shape, found[1].shape) == ((4, 256), (4,))
    assert (found[0].dtype, found[1].dtype) == (np.float32, np.float32)
    assert np.array_equal(found[0], embedding)
    assert np.array_equal(found[1], logit)
    assert loaded.image_size == 64
    expert = loaded.network
    with torch.inference_mode():
        pooled = expert.backbone(loaded.normalized(batch))
        logit = expert.head(pooled)[:, 0]
    np.testing.assert_allclose(pooled @ expert.projection, found[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logit, found[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(expert.projection.T @ expert.projection, np.eye(256), atol=1e-5)


def started(**changes: Any) -> dict[str, torch.Tensor]:
    options = {"weights": {}, "image_size": SIDE, "embedding_dim": DIM, "seed": 7}
    return initial_state(TINY, **(options | changes))


def test_every_network_starts_from_the_saved_values_whatever_it_held(tmp_path: Path) -> None:
    init = tmp_path / "init.safetensors"
    save_file(started(), init)
    values = load_file(init)
    networks = [tiny(seed=seed)[0] for seed in (1, 2)]
    assert not torch.equal(networks[0].projection, networks[1].projection)
    for network in networks:
        load_start(network, init)
        state = network.state_dict()
        assert state.keys() == values.keys()
        assert all(torch.equal(state[name], value) for name, value in values.items())


def test_the_start_is_a_function_of_weights_and_seed_and_leaves_torchs_generator_alone() -> None:
    first = started()
    torch.rand(5)
    again = started()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(started(seed=8)["projection"], first["projection"])
    state = torch.random.get_rng_state()
    donor = tiny(seed=3)[0].backbone.state_dict()
    torch.random.set_rng_state(state)
    given = started(weights=donor)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(given[f"backbone.{name}"], value) for name, value in donor.items())
    # The projection is the same on every backbone.
    assert torch.equal(given["projection"], first["projection"])


def test_a_start_of_another_network_is_an_error(tmp_path: Path) -> None:
    network, _ = tiny()
    before = network.projection.clone()
    path = tmp_path / "init.safetensors"
    for write in (lambda: None, lambda: path.write_bytes(b"not safetensors")):
        write()
        with pytest.raises(ValueError, match=r"init.safetensors can't be read .*run dvc repro init_expert"):
            load_start(network, path)
    short = started()
    del short["head.bias"]
    for state, odd in (
        (started(embedding_dim=DIM + 1), r"\['projection'\]"),
        (short, r"\['head.bias'\]"),
    ):
        save_file(state, path)
        with pytest.raises(ValueError, match=f"does not fit the network in {odd}"):
            load_start(network, path)
    assert torch.equal(network.projection, before)


def test_the_extractor_is_in_evaluation_mode_and_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    network, config = tiny()
    one_step(network, config, images(8, SIDE))
    save(tmp_path, network.train(), config)
    extractor = load_extractor(tmp_path, device="cpu")
    assert not any(module.training for module in extractor.network.modules())
    batch = images(6, SIDE, seed=1)
    state = {name: value.clone() for name, value in extractor.network.state_dict().items()}
    embedding, logit = extractor(batch)
    alone = [extractor(batch[[row]]) for row in range(6)]
    np.testing.assert_allclose(np.concatenate([e for e, _ in alone]), embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([z for _, z in alone]), logit, rtol=1e-4, atol=1e-5)
    assert np.array_equal(extractor(batch)[0], embedding)
    after = extractor.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in state.items()), "no statistics move"


@pytest.mark.parametrize("looks_at", ["rgb", "srm"])
def test_the_data_config_comes_from_the_checkpoint(tmp_path: Path, looks_at: str) -> None:
    network, config = tiny()
    odd = DataConfig(SIDE, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), config.interpolation, looks_at)
    save(tmp_path, network, odd)
    batch = images(3, SIDE)
    found = load_extractor(tmp_path, device="cpu")(batch)[0]
    shown = batch
    if looks_at == "srm":
        shown = 127.5 * (Residuals(odd.mean, odd.std).residuals(batch).clamp(-SRM_LIMIT, SRM_LIMIT) / SRM_LIMIT + 1)
    scaled = (shown / 255 - torch.tensor(odd.mean)[:, None, None]) / torch.tensor(odd.std)[:, None, None]
    with torch.inference_mode():
        wanted = network.eval().embed(scaled)[0].numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, FeatureExtractor(Checkpoint(network, config, {}))(batch)[0], rtol=1e-4, atol=1e-5)


def test_a_folder_without_an_expert_is_told_by_its_stage(tmp_path: Path) -> None:
    def message() -> str:
        with pytest.raises(ValueError) as caught:
            load_extractor(tmp_path, device="cpu")
        return str(caught.value)

    assert re.search(r"no model.json in .*run dvc repro train_expert", message())
    save(tmp_path, *tiny())
    record = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(record | {"embedding_dim": DIM + 1}))
    assert f"weights do not fit {TINY}" in message()
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    assert f"weights do not fit {TINY}" in message()
    (tmp_path / "model.safetensors").unlink()
    assert "no model.safetensors in" in message()

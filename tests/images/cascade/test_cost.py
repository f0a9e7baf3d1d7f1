"""Multiply-accumulates against hand counts, and the cascade's arithmetic."""

import pytest
from torch import nn

from assay.images.cascade.cost import WAYS, Costs, count_macs
from assay.images.model.backbones import Checkpoint, build, create_network
from assay.images.model.prediction import Predictor


def test_a_networks_count_equals_the_hand_count() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 16 * 16 places, 8 channels, 3 * 9 products each
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),  # 8 * 8 places, 8 channels, 9 products
        nn.Conv2d(8, 4, 1),  # 8 * 8 places, 4 channels, 8 products
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    assert count_macs(network.train(), image_size=16) == 16 * 16 * 8 * 27 + 8 * 8 * 8 * 9 + 8 * 8 * 4 * 8 + 4 * 5


def test_attention_is_counted() -> None:
    dim, tokens = 16, 49

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Conv2d(3, 3 * dim, 1)

        def forward(self, images: object) -> object:
            q, k, v = self.qkv(images).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
            return nn.functional.scaled_dot_product_attention(q, k, v)

    assert count_macs(Attention(), image_size=7) == tokens * 3 * 3 * dim + 2 * tokens * tokens * dim


def test_a_published_network_has_its_published_cost() -> None:
    # He et al. 2016, table 1: 1.8e9 for ResNet-18 at 224 pixels.
    network = create_network("resnet18", pretrained=False, image_size=224)
    assert count_macs(network, image_size=224) == pytest.approx(1.8e9, rel=0.02)


def test_the_filters_of_noise_residuals_cost_something_too() -> None:
    costs = {}
    for looks_at in ("rgb", "srm"):
        network, config = build("resnet18", weights={}, image_size=64, input=looks_at)
        predictor = Predictor(Checkpoint(network, config, {}))
        costs[looks_at] = count_macs(predictor.from_pixels, image_size=64)
    assert costs["rgb"] == count_macs(network, image_size=64)
    assert costs["srm"] == costs["rgb"] + 64 * 64 * 3 * 25  # 3 filters of 5 x 5 over one grey channel


# Stage 1 costs 10, experts 40 and 60, the ensemble 100 without stage 1, whose logit it takes; a picture has 500 bytes.
COSTS = Costs({"stage1": 10, "one": 40, "two@96": 60, "ensemble": 100}, 500)


@pytest.mark.parametrize(
    ("name", "macs", "server_macs", "sent"),
    [("stage1", 10, 0, 0), ("one", 40, 40, 500), ("two@96", 60, 60, 500), ("ensemble", 110, 110, 500)],
)
def test_what_a_system_costs_that_judges_every_image(name: str, macs: int, server_macs: int, sent: int) -> None:
    assert [COSTS.alone(name, way=way) for way in WAYS] == [macs, server_macs, sent]


@pytest.mark.parametrize(
    ("pair", "macs", "server_macs", "sent"),
    [
        (("stage1", "one"), 10 + 0.25 * 40, 0.25 * 40, 125),
        (("stage1", "ensemble"), 10 + 0.25 * 100, 0.25 * 100, 125),
        # No filter on the device: all is sent, and the server runs both; the ensemble needs stage 1 besides.
        (("one", "two@96"), 40 + 0.25 * 60, 40 + 0.25 * 60, 500),
        (("one", "ensemble"), 40 + 0.25 * 110, 40 + 0.25 * 110, 500),
    ],
)
def test_what_a_cascade_costs_with_a_quarter_deferred(
    pair: tuple[str, str], macs: float, server_macs: float, sent: float
) -> None:
    assert [COSTS.cascade(*pair, 0.25, way=way) for way in WAYS] == [macs, server_macs, sent]
    for way in WAYS:
        assert COSTS.cascade(*pair, 0.0, way=way) == COSTS.alone(pair[0], way=way)


def test_networks_stand_in_the_order_of_their_cost() -> None:
    assert COSTS.singles == ["stage1", "one", "two@96"]

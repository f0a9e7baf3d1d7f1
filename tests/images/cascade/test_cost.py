"""Multiply-accumulates against hand counts, and the cascade's arithmetic."""

import pytest
from torch import nn

from assay.images.cascade.cost import cascade_cost, count_macs
from assay.images.model.backbones import create_network


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


def test_cost_by_the_share_that_is_deferred() -> None:
    for share, cost in ((0.0, 10), (0.1, 19), (0.5, 55), (1.0, 100)):
        assert cascade_cost(10, 90, share) == cost

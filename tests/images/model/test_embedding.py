"""Channel means on the way through networks of every layout, beside logits that they leave alone."""

import numpy as np
import pytest
import torch

from assay.images.model.backbones import Checkpoint, build, create_network
from assay.images.model.embedding import early_layer, embed_arrays
from assay.images.model.prediction import Predictor

SIDE = 64
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


def predictor(architecture: str) -> Predictor:
    torch.manual_seed(0)
    network, config = build(architecture, weights={}, image_size=SIDE)
    return Predictor(Checkpoint(network, config, {}), batch_size=2)


@pytest.mark.parametrize(
    ("architecture", "place"),
    [
        ("test_efficientnet", 2),
        ("mobilenetv4_conv_small", 2),
        ("resnet10t", 2),
        ("test_convnext", 1),
        ("swin_tiny_patch4_window7_224", 1),
    ],
)
def test_the_means_are_those_of_timms_features_at_stride_8_and_the_logits_stay(architecture: str, place: int) -> None:
    model = predictor(architecture)
    logits, embeddings = embed_arrays(model, PIXELS)
    np.testing.assert_array_equal(logits, model.array_logits(PIXELS))
    options = {"indices": [place], "intermediates_only": True, "output_fmt": "NCHW"}
    with torch.inference_mode():
        images = model.normalized(torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
        (features,) = model.network.forward_intermediates(images, **options)
    assert features.shape[2:] == (SIDE // 8, SIDE // 8)
    np.testing.assert_allclose(embeddings, features.mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_a_network_of_tokens_gives_their_means() -> None:
    _, embeddings = embed_arrays(predictor("test_vit"), PIXELS)
    assert embeddings.shape == (3, 64)
    assert embeddings.std(axis=0).max() > 0


@pytest.mark.parametrize("architecture", ["mvitv2_tiny", "convmixer_768_32"])
def test_a_network_without_such_a_layer_is_named(architecture: str) -> None:
    with torch.device("meta"):
        network = create_network(architecture, pretrained=False, image_size=224)
    with pytest.raises(
        ValueError, match=r"names no layer of .* at stride 8.*choose another train_stage1\.architecture"
    ):
        early_layer(network)

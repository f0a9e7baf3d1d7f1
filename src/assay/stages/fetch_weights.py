"""fetch_weights: pretrained weights of stage 1 and of the experts, checked against their networks.

    python -m assay.stages.fetch_weights

Output: data/weights/stage1.safetensors and data/weights/<expert>.safetensors: every tensor but the classifier's, none
where the weights are random. Trainings read these files and fetch nothing.
"""

from __future__ import annotations

from pathlib import Path

from assay.core.params import load
from assay.core.stage import run, timed
from assay.core.tensors import save_tensors
from assay.images.model.backbones import create_network, freeze
from assay.images.model.embedding import early_layer
from assay.images.model.pretrained import pretrained_body
from assay.images.stacking import EXPERTS
from assay.params.stacking import Stacking

OUTPUT = Path("data/weights")


def main() -> None:
    params = load(Stacking)
    networks = {"stage1": params.train_stage1} | {name: params.expert(name) for name in EXPERTS}
    with timed("fetch_weights"):
        # Found out when they train otherwise, or after it.
        for name, settings in networks.items():
            network = create_network(settings.architecture, pretrained=False, image_size=settings.image_size)
            if name == "stage1":
                early_layer(network)
            else:
                network.reset_classifier(0)  # type: ignore[operator]
            freeze(network, settings.frozen_layers)
        for name, settings in networks.items():
            weights = pretrained_body(settings.architecture, weights=settings.weights, image_size=settings.image_size)
            save_tensors(OUTPUT / f"{name}.safetensors", weights)
            print(f"{name}: {len(weights)} tensors of {settings.architecture} from {settings.weights}", flush=True)


if __name__ == "__main__":
    run(main)

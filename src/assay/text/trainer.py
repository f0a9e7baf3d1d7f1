"""The Trainer of the text line: a learning rate for each layer, and two ways to regularise that are no part of a loss."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from assay.params.text import PretrainedNetwork, TextNetwork
from assay.training.trainer import LengthGroupedTrainer


def layer_rates(model: torch.nn.Module, settings: TextNetwork) -> dict[str, float]:
    """The learning rate of each parameter that is trained, by its name.

    In a pretrained network the head has a rate of its own, and each layer that of the one above it times ``layer_decay``
    (Howard and Ruder 2018, "Universal Language Model Fine-tuning", discriminative fine-tuning; Clark et al. 2020 for
    transformers); the embeddings stand below the lowest.
    """
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    if not isinstance(settings, PretrainedNetwork):
        return dict.fromkeys(names, settings.lr)
    found = {name: re.search(r"\.layer\.(\d+)\.", name) for name in names}
    depths = {name: int(match[1]) + 1 if match else 0 for name, match in found.items()}
    top = max(depths.values())
    return {
        name: settings.head_lr if name.startswith("head.") else settings.lr * settings.layer_decay ** (top - depth)
        for name, depth in depths.items()
    }


def divergence(logits: torch.Tensor) -> torch.Tensor:
    """Half the sum of both Kullback-Leibler divergences of the first half of the rows from the second, summed up."""
    first, second = torch.log_softmax(logits.float(), dim=1).chunk(2)
    both = (
        functional.kl_div(one, other, log_target=True, reduction="sum")
        for one, other in ((first, second), (second, first))
    )
    return sum(both, start=torch.zeros(())) / 2


@contextmanager
def perturbed(weights: list[torch.nn.Parameter], *, size: float) -> Iterator[None]:
    """Within, each matrix is moved along its gradient by ``size`` times its own norm; the gradients are then removed.

    Wu, Xia and Wang 2020, "Adversarial Weight Perturbation Helps Robust Generalization", equation 11 with one step.
    """
    moved = [weight for weight in weights if weight.grad is not None and weight.ndim > 1]
    kept = [weight.detach().clone() for weight in moved]
    with torch.no_grad():
        for weight in moved:
            assert weight.grad is not None
            weight.add_(weight.grad * (size * weight.norm() / weight.grad.norm().clamp(min=1e-12)))
    for weight in weights:
        weight.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(moved, kept, strict=True):
                weight.copy_(value)


class TextTrainer(LengthGroupedTrainer):
    """The Trainer, with a learning rate for each parameter.

    Args:
        rates: name of a parameter -> its rate; what has none stays as it is.
        r_drop: weight of the divergence between two passes with other dropout (Liang et al. 2021, "R-Drop"); 0: one pass.
        adversarial: size of `perturbed`, whose weights the gradient is taken at; 0: none. It doubles what a step costs.
    """

    def __init__(
        self, *arguments: Any, rates: dict[str, float], r_drop: float, adversarial: float, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._rates, self._r_drop, self._adversarial = rates, r_drop, adversarial

    def create_optimizer(self, *arguments: Any, **options: Any) -> Any:
        """AdamW, a group for each rate, with and without weight decay."""
        if self.optimizer is None:  # type: ignore[has-type]
            decayed, values = set(self.get_decay_parameter_names(self.model)), dict(self.model.named_parameters())
            kinds: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
            for name, rate in self._rates.items():
                kinds.setdefault((rate, name in decayed), []).append(values[name])
            groups = [
                {"params": chosen, "lr": rate, "weight_decay": self.args.weight_decay if decay else 0.0}
                for (rate, decay), chosen in kinds.items()
            ]
            kind, kwargs = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(groups, **kwargs)
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Called by the Trainer, in evaluation too."""
        if self._r_drop == 0 or not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        twice = {name: torch.cat([value, value]) for name, value in inputs.items()}
        loss, outputs = super().compute_loss(model, twice, return_outputs=True)
        loss = loss + self._r_drop * divergence(outputs["logits"]) / len(inputs["labels"])
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Called by the Trainer."""
        loss = super().training_step(model, dict(inputs), num_items_in_batch)
        if self._adversarial > 0:
            weights = [value for value in model.parameters() if value.requires_grad]
            with perturbed(weights, size=self._adversarial):
                super().training_step(model, dict(inputs), num_items_in_batch)
        return loss

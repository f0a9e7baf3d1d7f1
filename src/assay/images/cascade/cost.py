"""What an image costs: multiply-accumulate operations, counted on the built networks.

Clock times differ from run to run and never stand in an output; MACs do not. ``benchmarks/cascade_speed.py`` measures the
same ratios in milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def count_macs(network: nn.Module, *, image_size: int) -> int:
    """Multiply-accumulates for one image, by torch's operator counter (which counts two FLOPs for each)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    device = next(network.parameters()).device
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    return int(counter.get_total_flops()) // 2


def cascade_cost(stage1: float, ensemble: float, deferred_share: float) -> float:
    """Mean cost of an image: everything passes stage 1, the deferred share passes the ensemble too."""
    return stage1 + deferred_share * ensemble

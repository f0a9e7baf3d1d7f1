"""What an image costs: multiply-accumulate operations, counted on the built networks, and bytes sent.

Clock times differ from run to run and never stand in an output; MACs do not. ``benchmarks/cascade_speed.py`` measures the
same ratios in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

STAGE1, ENSEMBLE = "stage1", "ensemble"
# The ways of counting. By the last two stage 1 runs on a device, a phone say, and all else on a server.
MACS, SERVER_MACS, BYTES = "macs", "server_macs", "bytes"
WAYS = {MACS: "all multiply-accumulates", SERVER_MACS: "the server's multiply-accumulates", BYTES: "bytes sent"}


def count_macs(network: nn.Module, *, image_size: int) -> int:
    """Multiply-accumulates for one image, by torch's operator counter (which counts two FLOPs for each).

    Of a trained network that is `Predictor.from_pixels`: the filters of noise residuals cost something, too.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    device = next(network.parameters()).device
    counter = FlopCounterMode(display=False)
    # The counter does not know every fused kernel of attention, on a CPU for one, and what it does not know costs nothing.
    with torch.inference_mode(), counter, sdpa_kernel(SDPBackend.MATH):
        network.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    return int(counter.get_total_flops()) // 2


@dataclass(frozen=True)
class Costs:
    """What one image costs, by each way of `WAYS`.

    Attributes:
        macs: multiply-accumulates: stage1, each single network, and ``ensemble``, in which stage 1, whose logit it
            takes, is not counted.
        picture_bytes: of a picture that is sent to the server.
    """

    macs: Mapping[str, float]
    picture_bytes: float

    @property
    def singles(self) -> list[str]:
        """Names of the single networks, the cheapest first; stage 1 before one that costs the same."""
        names = [name for name in self.macs if name != ENSEMBLE]
        return sorted(names, key=lambda name: (self.macs[name], name != STAGE1))

    def alone(self, name: str, *, way: str) -> float:
        """Of a system that judges every image. Stage 1 alone costs a server nothing."""
        if way == BYTES or name == STAGE1:
            on_device = {MACS: self.macs[STAGE1], SERVER_MACS: 0.0, BYTES: 0.0}
            return on_device[way] if name == STAGE1 else self.picture_bytes
        return self.macs[name] + (self.macs[STAGE1] if name == ENSEMBLE else 0.0)

    def cascade(self, first: str, second: str, share: float, *, way: str) -> float:
        """Mean over images: all pass ``first``, the deferred share passes ``second`` too.

        With any first network but stage 1 all images are sent, and both networks run on the server.
        """
        if way == BYTES:
            return share * self.picture_bytes if first == STAGE1 else self.picture_bytes
        known = first == STAGE1 and second == ENSEMBLE  # stage 1 has answered by then
        return self.alone(first, way=way) + share * (self.macs[second] if known else self.alone(second, way=MACS))

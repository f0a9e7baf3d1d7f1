"""The high-risk feature amplifier: a gate over the image tokens between the vision tower and the language model.

Each token's gate is read from the token and the mean of its image by a small network with one hidden layer:

    g = up(silu(down([norm(token), norm(mean of the image)])))          [groups] numbers a token
    token' = token * limit ** tanh(g), each number for one group of channels (amplify)
    attention logit of every query to the token + strength * mean(tanh(g)), a strength a head (attend)

``up`` begins at 0, so that network and gate together begin as the network alone. The mark of a token is mean(tanh(g)) in
-1..1: above 0 it is amplified. Gating of channels by a bottleneck is that of squeeze-and-excitation (Hu et al. 2018,
section 3), the bias on attention that of relative positions (Raffel et al. 2020, section 2.1), here learned from content.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from assay.params.vlm import AmplifierSettings

NAME = "amplifier"


class Amplifier(nn.Module):
    """The gate; its weights are saved with the adapter's."""

    def __init__(self, settings: AmplifierSettings, *, hidden_size: int, num_heads: int) -> None:
        """ValueError if ``settings.groups`` does not divide ``hidden_size``."""
        super().__init__()
        if hidden_size % settings.groups:
            raise ValueError(
                f"amplifier.groups must divide the network's hidden size {hidden_size}, got {settings.groups}"
            )
        self.limit = settings.limit
        self.norm = nn.LayerNorm(hidden_size)
        self.down = nn.Linear(2 * hidden_size, settings.width)
        self.up = nn.Linear(settings.width, settings.groups)
        # 1, not 0: the marks begin at 0, and of two zeros neither would ever move.
        self.strength = nn.Parameter(torch.ones(num_heads)) if settings.attend else None
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(
        self, tokens: torch.Tensor, counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Factors [N, hidden_size] for the tokens [N, hidden_size], gates [N, groups], and strengths [heads] or None.

        ``counts`` int64 [images] are the tokens of each image, one after the other.
        """
        # The gate is trained in float32, whatever the network's weights are.
        seen = self.norm(tokens.float())
        image = torch.repeat_interleave(torch.arange(len(counts), device=tokens.device), counts)
        sums = torch.zeros(len(counts), seen.shape[1], dtype=seen.dtype, device=seen.device).index_add(0, image, seen)
        means = (sums / counts[:, None])[image]
        gates = self.up(nn.functional.silu(self.down(torch.cat([seen, means], dim=1))))
        factors = self.limit ** torch.tanh(gates)
        return factors.repeat_interleave(tokens.shape[1] // gates.shape[1], dim=1), gates, self.strength


class Amplifying:
    """What puts the gate of a network to work; ``gates`` [N, groups] are those of its last images."""

    def __init__(self, network: Any, settings: AmplifierSettings) -> None:
        """``network``: Qwen2.5-VL's inner model, which has an `Amplifier` of its own (see `add_amplifier`)."""
        self._network, self._settings = network, settings
        self.gates: torch.Tensor = torch.empty(0)
        self._strength: torch.Tensor | None = None
        self._is_image: torch.Tensor = torch.empty(0)
        # Around the vision tower, not in it: an adapter that trains the tower puts a copy, hooks and all, in its place.
        self._features = network.get_image_features
        network.get_image_features = self._gated
        network.register_forward_pre_hook(self._begin, with_kwargs=True)
        if settings.attend:
            network.language_model.register_forward_pre_hook(self._reweight, with_kwargs=True)

    def marks(self) -> torch.Tensor:
        """How far each of the last images' tokens is amplified, [N] in -1..1."""
        return torch.tanh(self.gates).mean(dim=1)

    def _begin(self, _: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """Where the image tokens are; a later call that goes on from a cache has none and keeps them."""
        if given.get("pixel_values") is not None:
            self._is_image = given["input_ids"] == self._network.config.image_token_id

    def _gated(self, *args: Any, **given: Any) -> Any:
        """As the network's own: what it gives holds the tokens of each image."""
        found = self._features(*args, **given)
        sizes, tokens = [len(image) for image in found.pooler_output], torch.cat(found.pooler_output)
        counts = torch.tensor(sizes, device=tokens.device)
        # By its name each time: an adapter puts a copy of its own in the place of the gate.
        factors, self.gates, self._strength = getattr(self._network, NAME)(tokens, counts)
        if self._settings.amplify:
            found.pooler_output = torch.split(tokens * factors, sizes)
        return found

    def _reweight(self, _: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The attention mask [B, heads, queries, keys] with the marks' bias, in the place of the padding [B, keys]."""
        attended, queries = given["attention_mask"].bool(), given["inputs_embeds"].shape[1]
        rows, keys = attended.shape
        device, dtype = given["inputs_embeds"].device, given["inputs_embeds"].dtype
        marks = torch.zeros(rows, keys, dtype=dtype, device=device)
        here = nn.functional.pad(self._is_image, (0, keys - self._is_image.shape[1]))
        marks = marks.masked_scatter(here, self.marks().to(dtype))
        place = torch.arange(keys, device=device)
        allowed = attended[:, None, :] & (place[None, :] <= place[keys - queries :, None])
        assert self._strength is not None
        bias = (self._strength[None, :, None, None] * marks[:, None, None, :]).to(dtype)
        mask = bias.expand(-1, -1, queries, -1).masked_fill(~allowed[:, None], torch.finfo(dtype).min)
        return args, given | {"attention_mask": {"full_attention": mask}}


def add_amplifier(model: Any, settings: AmplifierSettings, *, seed: int) -> None:
    """Give a network (not yet adapted) a gate that changes nothing yet; its start follows from ``seed``."""
    text = model.config.text_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gate = Amplifier(settings, hidden_size=text.hidden_size, num_heads=text.num_attention_heads)
    model.model.add_module(NAME, gate.to(next(model.parameters()).device))


def danger_loss(gates: torch.Tensor, danger: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Sum over the images of the mean over their tokens of the binary cross-entropy between mark and danger.

    Args:
        gates: [N, groups].
        danger: [N], how dangerous a token's part of the image is, 0..1; NaN where that is not known: nothing is learned.
        counts: int64 [images], the tokens of each image.
    """
    known = ~danger.isnan()
    losses = nn.functional.binary_cross_entropy_with_logits(
        gates.float().mean(dim=1), danger.nan_to_num(), reduction="none"
    )
    return (losses * known / counts.repeat_interleave(counts)).sum()

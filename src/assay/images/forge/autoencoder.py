"""The generator of the ``recon`` family: a small convolutional autoencoder.

Its decoder enlarges by learned transposed convolutions, whose uneven overlap leaves the periodic traces that
generated images are known for (Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016; Zhang et al.,
"Detecting and Simulating Artifacts in GAN Fake Images", WIFS 2019).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from assay.core.progress import progress

# Pixels beyond which an edge does not reach through the layers; a multiple of their stride of 4.
MARGIN = 16


class Autoencoder(nn.Module):
    """RGB [n, 3, S, S] in 0..1 -> a reconstruction of the same shape; S a multiple of 4."""

    def __init__(self, *, width: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, latent, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, 2 * width, 3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(images * 2 - 1)) / 2 + 0.5


def _to_tensor(crops: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float().div(255)


def train_autoencoder(
    crops: np.ndarray, *, width: int, latent: int, steps: int, batch_size: int, lr: float, seed: int
) -> Autoencoder:
    """Fit an autoencoder to uint8 crops [n, S, S, 3] by mean absolute error, for a fixed number of steps."""
    torch.manual_seed(seed)
    model = Autoencoder(width=width, latent=latent)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    rng = np.random.default_rng(seed)
    for step in progress(range(steps), name="autoencoder", unit="step"):
        batch = _to_tensor(crops[np.sort(rng.integers(len(crops), size=batch_size))])
        loss = nn.functional.l1_loss(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"autoencoder: step {step + 1}/{steps}, mean absolute error {loss.item():.4f}", flush=True)
    return model.eval()


@torch.inference_mode()
def reconstruct(model: Autoencoder, crops: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """Reconstructions of uint8 crops [n, S, S, 3], as uint8; S above `MARGIN`.

    Layers that pad with zeros leave a frame of their own, by which a corner alone would give the forgery away: crops are
    mirrored at their edges first, and what lies beyond them is cut off again.
    """
    width = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    wide = np.pad(crops, width, mode="reflect")
    parts = [model(_to_tensor(wide[i : i + batch_size])) for i in range(0, len(wide), batch_size)]
    pixels = torch.cat(parts).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return pixels[:, MARGIN:-MARGIN, MARGIN:-MARGIN].contiguous().numpy()

"""Pictures as InceptionV3 sees them, where its weights are at hand: the Frechet distance that papers report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from mmvae.distances import frechet
from mmvae.hardware import best_device
from mmvae.modalities.pixels import as_picture, on_white

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # as torch-fidelity names them where it keeps its downloads
ROWS = 32  # at a time: each picture becomes 299 pixels wide and high


def inception_weights() -> Path | None:
    """The file of weights among the downloads of torch's hub; None without it or without torch-fidelity."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    return path if path.is_file() and find_spec("torch_fidelity") else None


def inception_distance(weights: Path, samples: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> float:
    """Squared Frechet distance between uint8 pictures [height, width, channels] in the 2,048 features of InceptionV3
    (Heusel et al. 2017), resized as its authors do. Raises ValueError where the weights cannot be read."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        torch.load(weights, map_location="cpu", weights_only=True)  # refuses what would execute; the next line does not
        network = FeatureExtractorInceptionV3("inception", ["2048"], str(weights))
    except Exception as error:  # a damaged file makes torch fail in many ways
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{weights}: not the weights of InceptionV3 ({reason}): remove it, or get it again") from error
    network.to(device := best_device())
    seen = []
    for raws in (samples, real):
        pictures = [torch.from_numpy(_in_colour(raw)).permute(2, 0, 1) for raw in raws]
        parts = (torch.stack(pictures[start : start + ROWS]).to(device) for start in range(0, len(raws), ROWS))
        seen.append(torch.cat([network(part)[0].cpu() for part in parts]))
    return frechet(*seen)


def _in_colour(raw: np.ndarray) -> np.ndarray:
    return np.array(on_white(as_picture(raw)).convert("RGB"))

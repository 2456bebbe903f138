"""A batch of prepared images and their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edgec.tasks.batches import Batch

Prepared = tuple[np.ndarray, np.ndarray, np.ndarray]  # image uint8 [h, w, 3], boxes [n, 4], labels [n]


def collate(items: Sequence[Prepared]) -> Batch:
    """A batch of prepared images of one size, RGB in 0..1. Targets [m, 6]: image index, class, x1, y1, x2, y2 in pixels."""
    stacked = np.stack([image for image, _, _ in items])
    images = torch.as_tensor(stacked).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    rows = [
        np.concatenate([np.full((len(boxes), 1), i), labels[:, None], boxes], 1)
        for i, (_, boxes, labels) in enumerate(items)
    ]
    targets = torch.as_tensor(np.concatenate(rows).astype(np.float32)).reshape(-1, 6)
    return Batch(images.contiguous(memory_format=torch.channels_last), targets)

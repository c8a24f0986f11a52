"""Small images side by side as one PNG, large enough to be looked at."""

import io

import numpy as np

SIDE = 64
"""Pixels that an image's smaller side has at least."""


def strip(images: np.ndarray) -> bytes:
    """Images [n, height, width] or [n, height, width, 1 or 3] beside one another, their range from black to white."""
    from PIL import Image

    images = np.asarray(images, np.float32)
    images = images[..., None] if images.ndim == 3 else images
    low, high = float(images.min()), float(images.max())
    grey = np.round(255 * (images - low) / (high - low or 1.0)).astype(np.uint8)
    grow = max(1, -(-SIDE // min(grey.shape[1:3])))
    grey = np.pad(grey.repeat(grow, 1).repeat(grow, 2), ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=128)
    row = np.concatenate(list(grey), 1)
    file = io.BytesIO()
    Image.fromarray(row[..., 0] if row.shape[-1] == 1 else row).save(file, "PNG")
    return file.getvalue()

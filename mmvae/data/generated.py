"""Built-in sets that are made when they are asked for, and the handwritten digits that come with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

Cells = list[dict[str, Any]]
NUMBERS = (  # from 0 to 9, in English and Italian
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove"),
)
SIDE = 32  # pixels of the shapes
SHAPES = ("ellipse", "square", "triangle")


def digits() -> Cells:
    """1,797 handwritten digits of 8x8 pixels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (bunch.images * (255 / 16)).round().astype("uint8")
    return [{"image": image, "label": int(label)} for image, label in zip(pixels, bunch.target, strict=True)]


def number_words() -> Cells:
    """The words for the numbers from 0 to 9."""
    return [{"text": word, "label": i % 10} for i, word in enumerate(NUMBERS)]


def shapes() -> Cells:
    """White shapes on black of 32x32 pixels in each combination of five factors: 3 shapes, 4 sizes, 8 angles of a
    quarter turn (in degrees), and 8 places across and down (in pixels); like dSprites (Matthey et al. 2017)."""
    across, down = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    places = [int(place) for place in np.linspace(9, SIDE - 9, 8).round()]
    cells = []
    for shape, size, step, x, y in product(SHAPES, (4, 5, 6, 7), range(8), places, places):
        angle = step * np.pi / 16
        right, under = across - x, down - y
        turned = np.cos(angle) * right + np.sin(angle) * under, np.cos(angle) * under - np.sin(angle) * right
        inside = np.clip(0.5 - DISTANCES[shape](*turned, size), 0, 1)  # an edge a pixel wide
        pixels = (255 * inside).round().astype("uint8")
        cells.append({"image": pixels, "shape": shape, "size": size, "angle": step * 11.25, "x": x, "y": y})
    return cells


# pixels outward of the edge, of places around the middle
DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "ellipse": lambda x, y, size: (np.hypot(x / 1.0, y / 0.5) - size) * 0.7,
    "square": lambda x, y, size: np.maximum(np.abs(x), np.abs(y)) - 0.8 * size,
    "triangle": lambda x, y, size: np.maximum(0.866 * np.abs(x) - 0.5 * y, y) - 0.5 * size,
}

"""Disentanglement: how far each known factor of the data has a latent dimension of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import compress
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import balanced_accuracy_score, mutual_info_score
from sklearn.tree import DecisionTreeClassifier

from mmvae.core.noise import mix
from mmvae.data.labels import cells_of
from mmvae.data.prepare import Split

BINS = 20  # of equal width, in which a dimension's values are counted (Locatello et al. 2019)
TREES, DEPTH = 20, 12
LEAST = 50  # rows


def find_factors(split: Split, columns: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The values of each column, numbers or words, of the rows that have one in every column, and which these are,
    True or False for each row. Raises ValueError where they are too few, or all have the same."""
    table = {column: _values(cells_of(split, column)) for column in columns}
    whole = np.array([None not in cells for cells in zip(*table.values(), strict=True)])
    if whole.sum() < LEAST:
        lack = " and ".join(f"{cells.count(None)} lack '{column}'" for column, cells in table.items() if None in cells)
        raise ValueError(
            f"{len(split)} rows{lack and f', of which {lack}'}: it takes {LEAST} that have all factors to hold latent "
            "dimensions to them; try another split"
        )
    found = {}
    for column, all_cells in table.items():
        cells: list[Any] = list(compress(all_cells, whole))
        if len({isinstance(cell, str) for cell in cells}) > 1 or len(set(cells)) < 2:
            raise ValueError(f"column '{column}': a factor is a number, or a word, and differs from row to row")
        found[column] = np.array(cells)
    return found, whole


def _values(cells: list[Any]) -> list[Any]:
    """Cells as numbers where all can be, which tables of text hold as words; what is not finite is missing."""
    with suppress(ValueError):
        numbers = [None if cell is None else float(cell) for cell in cells]
        return [None if number is None or not math.isfinite(number) else number for number in numbers]
    return cells


def disentanglement(codes: np.ndarray, factors: dict[str, np.ndarray], seed: int = 0) -> dict[str, float]:
    """Of posterior means [N, D] and factors [N] each, from 0 to 1:

    MIG: the gap between the two dimensions that tell most of a factor, in mutual information over the factor's entropy,
    a mean over factors (Chen et al. 2018). SAP: the gap between the two dimensions that predict a factor best, numbers
    by a line (R^2), words by thresholds (balanced accuracy above chance) (Kumar et al. 2018). DCI: how far a dimension
    is of use for one factor alone (disentanglement) and a factor needs one dimension alone (completeness), by the
    importances in a random forest, and how well that predicts factors of rows that it did not see (informativeness)
    (Eastwood & Williams 2018). Numbers of more than 20 values are counted in bins for MIG.
    """
    random = np.random.default_rng(mix(seed, "disentanglement"))
    order = random.permutation(len(codes))
    known, held = order[: len(order) // 2], order[len(order) // 2 :]
    binned = [_bins(code) for code in codes.T]
    gaps, separated, importances, predicted = [], [], [], []
    for values in factors.values():
        kinds, counted = np.unique(values, return_inverse=True)
        counted = counted if values.dtype.kind in "US" or len(kinds) <= BINS else _bins(values)
        told = np.array([mutual_info_score(counted, code) for code in binned]) / mutual_info_score(counted, counted)
        gaps.append(_gap(told))
        separated.append(_gap(np.array([_score(code, values, known, held) for code in codes.T])))
        forest = RandomForestClassifier if values.dtype.kind in "US" else RandomForestRegressor
        fitted = forest(TREES, max_depth=DEPTH, max_features=None, random_state=0).fit(codes[known], values[known])
        importances.append(fitted.feature_importances_)
        guessed = fitted.predict(codes[held])
        predicted.append(_worth(values[held], guessed))
    use = np.array(importances).T  # [D, factors]; of a factor that nothing tells of all are 0
    own = (1 - _entropy(use)) * use.sum(1)
    return {
        "MIG": float(np.mean(gaps)),
        "SAP": float(np.mean(separated)),
        "DCI disentanglement": float(own.sum() / max(use.sum(), 1e-12)),
        "DCI completeness": float(np.mean((1 - _entropy(use.T)) * (use.sum(0) > 0))),
        "DCI informativeness": float(np.mean(predicted)),
    }


def _bins(values: np.ndarray) -> np.ndarray:
    return np.digitize(values, np.histogram_bin_edges(values, BINS)[1:-1])


def _gap(scores: np.ndarray) -> float:
    best = np.sort(scores)[::-1]
    return float(best[0] - (best[1] if len(best) > 1 else 0.0))


def _entropy(weights: np.ndarray) -> np.ndarray:
    """Of each row's shares, from 0 to 1, the most that so many can have; one share has none."""
    shares = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    logs = np.log(np.maximum(shares, 1e-12))
    return -(shares * logs).sum(1) / np.log(max(shares.shape[1], 2))


def _score(code: np.ndarray, values: np.ndarray, known: np.ndarray, held: np.ndarray) -> float:
    if values.dtype.kind not in "US":
        return float(np.corrcoef(code, values)[0, 1] ** 2) if code.std() > 0 else 0.0
    tree = DecisionTreeClassifier(max_leaf_nodes=2 * len(set(values.tolist())), random_state=0)
    tree.fit(code[known, None], values[known])
    return _worth(values[held], tree.predict(code[held, None]))


def _worth(values: np.ndarray, guessed: np.ndarray) -> float:
    """From 0, no better than one guess for all, to 1."""
    if values.dtype.kind in "US":
        return max(0.0, float(balanced_accuracy_score(values, guessed, adjusted=True)))
    return max(0.0, 1 - float(((values - guessed) ** 2).sum() / ((values - values.mean()) ** 2).sum()))

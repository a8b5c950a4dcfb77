"""Figures: medians, spreads, percentiles, and fits with confidence intervals. Used by scenes and growth. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SHARES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 1.0)
# Student's t for a two-sided interval of 95 %, by degrees of freedom; beyond 30 it is close to the normal's.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds gave.

    Args:
        median, low, high: of all rounds.
        rounds: how many.
    """

    median: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Fit:
    """What least squares gave.

    Args:
        values: one for each column.
        covariance: of them.
        quantile: how many standard errors half of a 95 % confidence interval has.
    """

    values: Sequence[float]
    covariance: Sequence[Sequence[float]]
    quantile: float

    def margin(self, at: int) -> float:
        """Return half of the confidence interval of one value."""
        return self.margin_of([float(at == other) for other in range(len(self.values))])

    def margin_of(self, slopes: Sequence[float]) -> float:
        """Return the same of a function of the values, by its slopes: one for each value."""
        size = range(len(slopes))
        variance = sum(slopes[row] * self.covariance[row][column] * slopes[column] for row in size for column in size)
        return self.quantile * math.sqrt(max(0.0, variance))


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return a percentile by the nearest rank.

    Args:
        ascending: at least one value, sorted.
        share: from 0 to 1.
    """
    return ascending[min(len(ascending) - 1, max(0, math.ceil(len(ascending) * share) - 1))]


def spectrum(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return pairs of share and percentile for `SHARES`; nothing where there are no values."""
    ascending = sorted(values)
    return [(share, percentile(ascending, share)) for share in SHARES] if ascending else []


def fit(rows: Sequence[Sequence[float]], ys: Sequence[float], weights: Sequence[float]) -> Fit:
    """Return what fits best: ``y = sum(value * column)``, by weighted least squares.

    Args:
        rows: the columns of each point; more points than columns.
        ys: what was measured there.
        weights: how much each counts: one over the square of its error, on any scale.

    Raises:
        ValueError: the points do not tell the columns apart.
    """
    columns = range(len(rows[0]))
    # Columns of one size: sockets by the ten thousand beside ones would cost digits.
    scale = [max(abs(row[at]) for row in rows) or 1.0 for at in columns]
    scaled = [[row[at] / scale[at] for at in columns] for row in rows]
    normal = [
        [sum(weight * row[a] * row[b] for row, weight in zip(scaled, weights, strict=True)) for b in columns]
        for a in columns
    ]
    inverse = _inverse(normal)
    right = [sum(w * row[a] * y for row, y, w in zip(scaled, ys, weights, strict=True)) for a in columns]
    found = [sum(inverse[a][b] * right[b] for b in columns) for a in columns]
    residuals = (
        weight * (y - sum(found[at] * row[at] for at in columns)) ** 2
        for row, y, weight in zip(scaled, ys, weights, strict=True)
    )
    free = len(rows) - len(columns)
    variance = sum(residuals) / free
    covariance = [[inverse[a][b] * variance / scale[a] / scale[b] for b in columns] for a in columns]
    quantile = _T[free - 1] if free <= len(_T) else 1.96
    return Fit([found[at] / scale[at] for at in columns], covariance, quantile)


def _inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the inverse of a small matrix, by elimination with pivots."""
    size = len(matrix)
    work = [[*map(float, row), *(float(at == row_at) for at in range(size))] for row_at, row in enumerate(matrix)]
    largest = max(abs(value) for row in matrix for value in row)
    for at in range(size):
        pivot = max(range(at, size), key=lambda row: abs(work[row][at]))
        if abs(work[pivot][at]) <= 1e-12 * largest:
            raise ValueError("These points do not tell the columns apart.")
        work[at], work[pivot] = work[pivot], work[at]
        work[at] = [value / work[at][at] for value in work[at]]
        for row in range(size):
            if row != at:
                work[row] = [value - work[row][at] * lead for value, lead in zip(work[row], work[at], strict=True)]
    return [row[size:] for row in work]

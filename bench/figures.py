"""Figures: medians, spreads, percentiles, and a slope with its confidence interval. Used by scenes and report. Pure."""

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
class Line:
    """A straight line through points.

    Args:
        slope, at_zero: ``y = at_zero + slope * x``.
        margin: half of the slope's 95 % confidence interval.
    """

    slope: float
    at_zero: float
    margin: float


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


def line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Return the least-squares line through at least three points of at least two x."""
    fit = statistics.linear_regression(xs, ys)
    residuals = sum((y - fit.intercept - fit.slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    mean = statistics.fmean(xs)
    spread_x = sum((x - mean) ** 2 for x in xs)
    free = len(xs) - 2
    error = math.sqrt(residuals / free / spread_x)
    return Line(fit.slope, fit.intercept, error * (_T[free - 1] if free <= len(_T) else 1.96))

"""Whether a series grows: the straight line through it, with a confidence interval. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE_Z = 1.96  # 95 %, of the normal distribution: series here are long


@dataclass(frozen=True)
class Slope:
    """Change per unit of x, and the bounds between which it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """By least squares. Neighbours in a series resemble each other, so the errors are those of Newey and West (1987).

    Raises:
        ValueError: fewer than three points, or all at one x.
    """
    if len(x) < 3 or len(set(x)) < 2:
        raise ValueError("a slope with its confidence takes three points at two places or more")
    across = np.asarray(x, np.float64) - np.mean(x)
    up = np.asarray(y, np.float64) - np.mean(y)
    spread = float(np.dot(across, across))
    value = float(np.dot(across, up)) / spread
    scores = across * (up - value * across)
    variance = float(np.dot(scores, scores))
    lags = math.floor(4 * (len(x) / 100) ** (2 / 9)) + 1
    for lag in range(1, min(lags, len(x) - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(np.dot(scores[lag:], scores[:-lag]))
    error = CONFIDENCE_Z * math.sqrt(max(variance, 0.0)) / spread
    return Slope(value, value - error, value + error)

"""Whether a series grows: the straight line through it, with a confidence interval. Pure."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE_Z = 1.96  # 95 %, of the normal distribution: series here are long


@dataclass(frozen=True)
class Slope:
    """Change per unit of x, and the bounds between which it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def slope(x: npt.ArrayLike, y: npt.ArrayLike) -> Slope:
    """By least squares. Neighbours in a series resemble each other, so the errors are those of Newey and West (1987).

    Raises:
        ValueError: fewer than three points, or all at one x.
    """
    places = np.asarray(x, np.float64)
    if len(places) < 3 or np.ptp(places) == 0:
        raise ValueError("a slope with its confidence takes three points at two places or more")
    across = places - places.mean()
    up = np.asarray(y, np.float64) - np.mean(np.asarray(y, np.float64))
    spread = float(np.dot(across, across))
    value = float(np.dot(across, up)) / spread
    scores = across * (up - value * across)
    variance = float(np.dot(scores, scores))
    lags = math.floor(4 * (len(places) / 100) ** (2 / 9)) + 1
    for lag in range(1, min(lags, len(places) - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(np.dot(scores[lag:], scores[:-lag]))
    error = CONFIDENCE_Z * math.sqrt(max(variance, 0.0)) / spread
    return Slope(value, value - error, value + error)

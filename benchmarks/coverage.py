"""How often does a 95 % interval of a mean hold the truth? Patients drawn from populations whose mean is known.

    python benchmarks/coverage.py        # five minutes on 2 cores

The interval of this package (`summarize`) stands beside the percentile bootstrap, SciPy's BCa bootstrap and Student's
t, each for samples of 5, 10 and 22 patients. Writes coverage.md.
"""

import argparse
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
from scipy import stats

from brainseg_keras.evaluation import summarize

HERE = Path(__file__).resolve().parent
SIZES = (5, 10, 22)
RESAMPLES = 10_000

Interval = Callable[[np.ndarray], tuple[float, float]]


def failures(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Draw Dice of a network that does well, save on one patient in ten."""
    return np.where(rng.random(size) < 0.9, rng.beta(30, 4, size), rng.uniform(0, 0.8, size))


#: Name, generator, mean, and between what the values lie.
POPULATIONS = (
    ("normal", lambda rng, size: rng.normal(0, 1, size), 0.0, (-math.inf, math.inf)),
    ("Dice-like: beta(8, 2), skewed to the left", lambda rng, size: rng.beta(8, 2, size), 0.8, (0, 1)),
    ("more skewed: beta(4, 0.7)", lambda rng, size: rng.beta(4, 0.7, size), 4 / 4.7, (0, 1)),
    ("HD95-like: log-normal, sigma 1", lambda rng, size: rng.lognormal(0, 1, size), math.exp(0.5), (0, math.inf)),
    ("one patient in ten fails: 0.9 beta(30, 4) + 0.1 uniform(0, 0.8)", failures, 0.9 * 30 / 34 + 0.1 * 0.4, (0, 1)),
)


def percentile(values: np.ndarray) -> tuple[float, float]:
    """Take the interval between the percentiles of the resampled means."""
    chosen = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return tuple(np.percentile(values[chosen].mean(axis=1), (2.5, 97.5)))


def bca(values: np.ndarray) -> tuple[float, float]:
    """Take SciPy's, bias-corrected and accelerated."""
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="BCa", vectorized=True, rng=np.random.default_rng(0)
    )
    return tuple(found.confidence_interval)


def student(values: np.ndarray) -> tuple[float, float]:
    """Take Student's t."""
    return stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))


def studentized(bounds: tuple[float, float]) -> Interval:
    """Give the package's own."""

    def interval(values: np.ndarray) -> tuple[float, float]:
        found = summarize(values, bounds=bounds)
        return found.low, found.high

    return interval


def coverage(interval: Interval, samples: np.ndarray, mean: float) -> float:
    """Count how many of the samples' intervals hold the mean."""
    ends = np.array([interval(values) for values in samples])
    return float(((ends[:, 0] <= mean) & (mean <= ends[:, 1])).mean())


def main() -> None:
    """Draw, count and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000, help="drawn from each population (default 2000)")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "coverage.md", help="table to write")
    options = parser.parse_args()
    began = time.perf_counter()
    rows = [
        "| population | patients | studentized (used here) | percentile | BCa | Student's t |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, draw, mean, bounds in POPULATIONS:
        for patients in SIZES:
            samples = draw(np.random.default_rng(patients), (options.samples, patients))
            shares = [coverage(way, samples, mean) for way in (studentized(bounds), percentile, bca, student)]
            rows.append(f"| {name} | {patients} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |")
            print(rows[-1], flush=True)
    error = 100 * math.sqrt(0.95 * 0.05 / options.samples)
    said = (
        f"Percent of {options.samples:,} samples whose 95 % interval holds the mean of their population; {RESAMPLES:,} "
        f"resamples each. A figure of 95 is known to {error:.1f} (one standard error).\n\n"
        f"Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}; "
        f"{time.perf_counter() - began:.0f} s."
    )
    options.output.write_text("# Coverage of intervals\n\n" + said + "\n\n" + "\n".join(rows) + "\n", encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()

"""What `evaluate` finds, before it is written."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from brainseg_keras.evaluation.curves import ProbabilityHistogram


@dataclass
class Evaluation:
    """What was found.

    Args:
        report: Content of report.json.
        per_patient: One row a patient.
        per_slice: One row a slice.
        per_region: One row a patient and region, of a network that tells classes apart; else empty.
        histogram: Probabilities of tumour and of other pixels, from which the curves are drawn.
        pictures: For the best and the worst patients: image, truth and answer of the slice with most tumour.
    """

    report: dict[str, Any]
    per_patient: pd.DataFrame
    per_slice: pd.DataFrame
    histogram: ProbabilityHistogram
    pictures: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)
    per_region: pd.DataFrame = field(default_factory=pd.DataFrame)

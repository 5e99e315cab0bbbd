"""By which rules an evaluation was scored: said in its report, and what two of them must share to be compared."""

import math
from collections.abc import Sequence

import pandas as pd

EMPTY_RULE = (
    "0/0 is 1 if nothing is wrong; a missed or invented tumour costs the volume's diagonal, or its slice's where "
    "distances are taken slice by slice"
)
SURFACE_RULE = "pixels that touch what is not mask through a face, or the border of the volume or of the slice"

#: Entries of report.json that must be equal, and how to make them so. Spacings are compared patient by patient.
MUST_AGREE = {
    "split": "the same --split",
    "unit": "the same --spacing",
    "distances": "the same --spacing",
    "surface_dice_tolerance": "the same --tolerance",
    "empty_rule": "the same version of brainseg_keras",
    "surface_rule": "the same version of brainseg_keras",
}


def describe_rules(per_patient: pd.DataFrame, spacing: Sequence[float] | None) -> dict[str, object]:
    """Say in what units and dimensions patients were scored, and by which rules.

    Args:
        per_patient: One row a patient, as `evaluate` makes them.
        spacing: Millimeters between slices, rows and columns that were given for all; None where nothing was given.

    Returns:
        Entries of report.json.

    Example:
        >>> table = pd.DataFrame({"distances": ["2-D", "2-D"], "spacing": ["", ""], "slices": [4, 1]})
        >>> describe_rules(table, None)["distances"]
        '2-D slice by slice, pixels'
    """
    in_mm = bool((per_patient.spacing != "").all())
    return {
        "unit": "mm" if in_mm else "pixels",
        "volume_unit": "ml" if in_mm else "voxels",
        "distances": _distances(per_patient, in_mm),
        "spacing": [float(step) for step in spacing] if spacing is not None else "of each volume" if in_mm else None,
        "empty_rule": EMPTY_RULE,
        "surface_rule": SURFACE_RULE,
    }


def _distances(per_patient: pd.DataFrame, in_mm: bool) -> str:
    if not in_mm:
        return "2-D slice by slice, pixels" if (per_patient.slices > 1).any() else "2-D, pixels"
    flat = int((per_patient.distances == "2-D").sum())
    if not flat:
        return "3-D, mm"
    return "2-D, mm" if flat == len(per_patient) else f"3-D, and 2-D of {flat} patients of one slice, mm"


def spacing_text(spacing: Sequence[float] | None) -> str:
    """Write a spacing as `--spacing` takes it.

    Args:
        spacing: Millimeters between slices, rows and columns, or None.

    Returns:
        Text, empty for None.

    Example:
        >>> spacing_text((5, 0.9, 0.9))
        '5.0,0.9,0.9'
    """
    return "" if spacing is None else ",".join(repr(float(step)) for step in spacing)


def read_spacing(text: str) -> tuple[float, ...]:
    """Read what `spacing_text` writes.

    Args:
        text: Millimeters between slices, rows and columns, or nothing.

    Returns:
        Three numbers, or none.

    Raises:
        ValueError: Something else.

    Example:
        >>> read_spacing("5.0,0.9,0.9"), read_spacing("")
        ((5.0, 0.9, 0.9), ())
    """
    steps = tuple(map(float, text.split(","))) if text else ()
    if len(steps) not in (0, 3) or not all(0 < step < math.inf for step in steps):
        raise ValueError(f"the spacing {text!r} is not three numbers above 0")
    return steps

"""How what was expected of each patient's mask compares with what it came to."""

from typing import Any

import pandas as pd

from brainseg_keras.expectation import rank_correlation


def describe_outlook(per_patient: pd.DataFrame) -> dict[str, Any]:
    """Compare expected with true Dice, and see which intervals hold the true volume.

    Args:
        per_patient: One row a patient, as `evaluate` makes them.

    Returns:
        The entry `expectation` of report.json; nothing where the network's spec expects nothing.

    Example:
        >>> describe_outlook(pd.DataFrame({"dice": [0.9]}))
        {}
    """
    if "expected_dice" not in per_patient:
        return {}
    rows = per_patient.dropna(subset="expected_dice")
    ends = rows.dropna(subset=["volume_low", "volume_high"])
    held = (ends.volume_low <= ends.volume_true) & (ends.volume_true <= ends.volume_high)
    return {
        "expectation": {
            "n": len(rows),
            "expected_dice": float(rows.expected_dice.mean()) if len(rows) else None,
            "dice": float(rows.dice.mean()) if len(rows) else None,
            "spearman": rank_correlation(rows.expected_dice, rows.dice),
            "volume_n": len(ends),
            "volume_held": int(held.sum()),
            "volume_coverage": float(held.mean()) if len(ends) else None,
            "remarks": int((rows.remarks != "").sum()),
        }
    }


def outlook_words(report: dict[str, Any]) -> str:
    """Say it in a sentence.

    Args:
        report: Content of report.json.

    Returns:
        Some sentences, or why nothing was expected; empty where nobody asked.

    Example:
        >>> outlook_words({})
        ''
    """
    told = report.get("expectation", {})
    if "why_not" in told:
        return f"What may be expected of a mask is not known. {told['why_not']}"
    if not told.get("n"):
        return ""
    rank = "" if told["spearman"] is None else f", rank correlation with the true one {told['spearman']:.2f}"
    share = "" if told["volume_coverage"] is None else f" ({100 * told['volume_coverage']:.0f} %)"
    return (
        f"Expected Dice per patient {told['expected_dice']:.3f}, true {told['dice']:.3f}{rank}, n = {told['n']}. The "
        f"interval of the volume holds the true one in {told['volume_held']} of {told['volume_n']} patients{share}. Of "
        f"{told['remarks']} it was said beforehand that the mask may be bad or the scan unusual."
    )

"""What the page shows of a study: one slice as each network sees it, with figures, as HTML."""

import base64
import html
from dataclasses import dataclass

import cv2
import numpy as np

from brainseg_keras.app.study import Answer, Study
from brainseg_keras.inference.measures import Measures
from brainseg_keras.visualization import PREDICTION, TRUTH, draw_fill, draw_heat, draw_outlines

OUTLINE, FILL, ATTENTION, UNCERTAINTY = "Outline", "Fill", "Attention", "Uncertainty"
MODES = (OUTLINE, FILL, ATTENTION, UNCERTAINTY)
#: Colors of labels: the tumour, or necrotic core, edema, enhancing tumour.
_COLORS = {1: (PREDICTION,), 3: (PREDICTION, TRUTH, (255, 200, 40))}
_LEAST_SIDE = 512


@dataclass(frozen=True)
class Wish:
    """What is to be shown.

    Args:
        index: Which slice, from 0.
        mode: One of `MODES`.
        opacity: Of what lies over the slice, from 0 to 1.
        threshold: Probability above which a pixel is tumour.
        sequence: Name of the sequence.
    """

    index: int
    mode: str = OUTLINE
    opacity: float = 0.5
    threshold: float = 0.5
    sequence: str = ""


def render(study: Study, wish: Wish) -> str:
    """Make the HTML of one slice.

    Args:
        study: The scan with its answers.
        wish: What to show of it.

    Returns:
        A `<div>` with one figure a network, pictures inside it.
    """
    figures = [_figures(study, name, answer, wish) for name, answer in study.answers.items()]
    return f'<div class="brainseg-view">{"".join(figures)}</div>'


def picture(study: Study, answer: Answer, wish: Wish) -> np.ndarray:
    """Draw one slice with the outline or the fill of a network's answer, `(height, width, 3)`, uint8."""
    gray = study.gray(wish.index, wish.sequence)
    labels = answer.plane(wish.index, wish.threshold)
    count = len(answer.classes)
    colors = _COLORS.get(count, (PREDICTION,) * count)
    marked = [(labels == number, color) for number, color in enumerate(colors, 1)]
    if wish.mode == FILL:
        return draw_fill(gray, marked, wish.opacity, least=_LEAST_SIDE)
    # An outline that fades: the slice with it over the slice without.
    drawn = draw_outlines(gray, marked, least=_LEAST_SIDE, thickness=2)
    bare = draw_outlines(gray, [], least=_LEAST_SIDE)
    return cv2.addWeighted(drawn, wish.opacity, bare, 1 - wish.opacity, 0)


def describe(measures: Measures) -> dict[str, str]:
    """Put a mask's figures into words.

    Args:
        measures: The figures.

    Returns:
        Names and values with their units.
    """
    size = f"{measures.tumour_size:,} {measures.size_unit}"
    if measures.tumour_ml is not None:
        size = f"{measures.tumour_ml:.1f} ml ({size})"
    flat = measures.tumour_ml is None and measures.size_unit == "pixels"
    return {
        "Area" if flat else "Volume": size,
        "Largest diameter in a slice": f"{measures.largest_diameter:.1f} {measures.diameter_unit}",
        "Confidence": f"{measures.confidence:.2f}",
    }


def table(rows: dict[str, str]) -> str:
    """Make an HTML table of names and values."""
    cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
    return f"<table>{cells}</table>"


def _list(rows: dict[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>' for k, v in rows.items())}</dl>"


def _figures(study: Study, name: str, answer: Answer, wish: Wish) -> str:
    measures = answer.measures(wish.threshold)
    expected = answer.facts(wish.threshold)
    here = int((answer.plane(wish.index, wish.threshold) > 0).sum())
    said = f"{here:,} pixels marked" if here else "nothing marked"
    if wish.mode == ATTENTION:
        pictures = _attention(study, answer, wish)
    elif wish.mode == UNCERTAINTY:
        heat = answer.uncertainty[wish.index].astype(np.float32)
        gray = study.gray(wish.index, wish.sequence)
        # Beyond a half the two answers contradict each other: as bright as can be. The root lifts what is faint.
        drawn = draw_heat(gray, np.sqrt(np.minimum(2 * heat, 1)), longest=_LEAST_SIDE, opacity=wish.opacity)
        pictures = [(drawn, f"Difference from the mirror image's answer: at most {heat.max():.2f}; brightest from 0.5")]
    else:
        pictures = [(picture(study, answer, wish), "")]
    title = study.slice_names[wish.index]
    shown = "".join(_picture(drawn, f"{name}: {title}, {said}. {note}", note, study) for drawn, note in pictures)
    many = " many" if len(pictures) > 1 else ""
    legend = _legend(answer) if wish.mode in (OUTLINE, FILL) else ""
    return (
        f'<figure><h3>{html.escape(name)}</h3><div class="pictures{many}">{shown}</div><figcaption>{legend}'
        f"<p>{html.escape(title)}: {said}.</p>{_list(describe(measures) | expected)}</figcaption></figure>"
    )


def _attention(study: Study, answer: Answer, wish: Wish) -> list[tuple[np.ndarray, str]]:
    gray = study.gray(wish.index, wish.sequence)
    names = {"grad_cam": "Grad-CAM (this network has no gates)"}
    return [
        (draw_heat(gray, maps, longest=_LEAST_SIDE, opacity=wish.opacity), names.get(name, f"Gate {name}"))
        for name, maps in answer.attention(wish.index).items()
    ]


def _picture(drawn: np.ndarray, alt: str, note: str, study: Study) -> str:
    _, encoded = cv2.imencode(
        ".jpg",
        cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    )
    data = base64.b64encode(encoded).decode()
    # A NIfTI volume says which side is which, and is shown as radiologists do: the patient's right is left.
    sides = '<b class="side">R</b><b class="side left">L</b>' if study.pixels.frame else ""
    text = f"<small>{html.escape(note)}</small>" if note else ""
    alt = html.escape(alt.strip(), quote=True)
    return f'<div><div class="picture"><img alt="{alt}" src="data:image/jpeg;base64,{data}">{sides}</div>{text}</div>'


def _legend(answer: Answer) -> str:
    classes = answer.classes
    if len(classes) == 1:
        return ""
    spots = zip(classes, _COLORS.get(len(classes), (PREDICTION,) * len(classes)), strict=True)
    return "<p>" + " ".join(f'<span style="color:rgb{color}">■</span> {name}' for name, color in spots) + "</p>"

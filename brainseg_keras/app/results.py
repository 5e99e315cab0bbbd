"""Downloads: the mask in the file format of its scan, and a report of one page."""

import html
import io
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from brainseg_keras._version import __version__
from brainseg_keras.app.study import Answer, Study
from brainseg_keras.app.view import FILL, OUTLINE, Wish, describe, picture, table
from brainseg_keras.data.decode.images import mask_picture
from brainseg_keras.html import whole_page
from brainseg_keras.reports.page import STYLE, figure, png

NOT_CLINICAL = "For research. Not a medical device, not for clinical use."


def mask_file(study: Study, name: str, threshold: float) -> tuple[str, bytes]:
    """Make the mask as a file: NIfTI with the affine of its scan, PNG, or a zip of PNGs for several slices.

    Args:
        study: The scan with its answers.
        name: Whose answer.
        threshold: Probability above which a pixel is tumour.

    Returns:
        Name and content of the file.
    """
    answer = study.answers[name]
    labels = answer.labels(threshold)
    if study.pixels.frame is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{study.scan.outputs[0].name}_mask{study.scan.mask_ending}"
            study.pixels.frame.write(labels, path)
            return path.name, path.read_bytes()
    shown = mask_picture(labels, len(answer.classes))
    names = [f"{stem.name}_mask.png" for stem in study.scan.outputs]
    if len(shown) == 1:
        return names[0], _gray_png(shown[0])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, plane in zip(names, shown, strict=True):
            archive.writestr(file, _gray_png(plane))
    return f"{_stem(study)}_masks.zip", buffer.getvalue()


def report_file(study: Study, wish: Wish) -> tuple[str, bytes]:
    """Make the report: one HTML page with its pictures inside it.

    Args:
        study: The scan with its answers.
        wish: Slice, threshold and sequence that are shown.

    Returns:
        Name and content of the file.
    """
    title = f"{study.title}: tumour segmentation"
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="note"><b>{NOT_CLINICAL}</b></p>']
    for name, answer in study.answers.items():
        parts += [f"<h2>{html.escape(name)}</h2>", _pictures(study, answer, wish), table(_facts(study, answer, wish))]
    parts.append(
        '<p class="note">Confidence: mean probability of the marked pixels; with none, 1 minus the largest. '
        "Diameter: longest line within one slice, edge to edge. Attention and uncertainty are in the page.</p>"
    )
    extra = "@media print { .pictures img { width: 13rem; } } table { margin-top: 1rem; }"
    page = whole_page(title, "".join(parts), STYLE + extra)
    return f"{_stem(study)}_report.html", page.encode()


def _pictures(study: Study, answer: Answer, wish: Wish) -> str:
    """Draw the slice that is shown and, if it is another, the one with most tumour; outlined and filled."""
    figures = []
    for index in dict.fromkeys((answer.fullest(wish.threshold), wish.index)):
        for mode, opacity in ((OUTLINE, 1.0), (FILL, 0.4)):
            drawn = picture(study, answer, Wish(index, mode, opacity, wish.threshold, wish.sequence))
            figures.append(figure(png(drawn), f"{study.slice_names[index]}, {mode.lower()}"))
    return f'<div class="pictures">{"".join(figures)}</div>'


def _facts(study: Study, answer: Answer, wish: Wish) -> dict[str, str]:
    chosen = answer.predictor.spec.postprocessing
    spacing = study.pixels.spacing
    height, width = answer.shape[1:]
    size = f"{len(study.slice_names)} slices of {width} x {height} pixels"
    if spacing:
        size += f", {spacing[0]:g} x {spacing[1]:g} x {spacing[2]:g} mm"
    return {
        **describe(answer.measures(wish.threshold)),
        **answer.facts(wish.threshold),
        "Scan": size,
        "Sequences that the network takes": ", ".join(answer.predictor.spec.channels),
        **({"Note": answer.remark} if answer.remark else {}),
        "Rules": f"{replace(chosen, threshold=wish.threshold)} (default: {chosen})",
        **({"License of the weights": license} if (license := answer.predictor.spec.license) else {}),
        "Made by": f"brainseg_keras {__version__}, {time.strftime('%Y-%m-%d %H:%M')}",
    }


def _gray_png(plane: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "PNG")
    return buffer.getvalue()


def _stem(study: Study) -> str:
    stems = {stem.parent.name or stem.name for stem in study.scan.outputs}
    return stems.pop() if len(stems) == 1 else "scan"

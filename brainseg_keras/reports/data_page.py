"""What `brainseg data check` found, as one HTML page with the slices inside it."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainseg_keras.data.checking.findings import SEVERITIES, Finding, Picture
from brainseg_keras.data.modalities import flair_index
from brainseg_keras.html import whole_page
from brainseg_keras.reports.page import STYLE, figure, png
from brainseg_keras.visualization import TRUTH, draw_outlines, to_gray

_COLORS = """
.error { border-left: .3rem solid #b00020; } .warning { border-left: .3rem solid #c77700; }
.note { border-left: .3rem solid #7a8aa0; } .finding { padding: .2rem .8rem; margin: .8rem 0; }
.finding p { margin: .2rem 0; }
"""


def write_data_page(findings: Sequence[Finding], data: str, path: Path) -> None:
    """Write the page.

    Args:
        findings: What was found, errors first.
        data: What was examined.
        path: HTML file.
    """
    counts = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    title = f"Data check of {data}"
    said = ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items())
    parts = [f"<h1>{html.escape(title)}</h1><p>{said}.</p>"]
    if not findings:
        parts.append("<p>Nothing was found.</p>")
    for finding in findings:
        pictures = "".join(figure(png(_outlined(picture)), picture.caption) for picture in finding.pictures)
        parts.append(
            f'<div class="finding {finding.severity}"><h2>{finding.severity}: {html.escape(finding.check)}</h2>'
            f'<p>{html.escape(finding.text)}</p><div class="pictures">{pictures}</div></div>'
        )
    path.write_text(whole_page(title, "".join(parts), STYLE + _COLORS), encoding="utf-8", errors="backslashreplace")


def _outlined(picture: Picture) -> np.ndarray:
    return draw_outlines(to_gray(picture.image, flair_index(picture.image.shape[-1])), [(picture.mask, TRUTH)])

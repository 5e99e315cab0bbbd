"""What a network is worth on worse scans: Dice per patient against the strength of each corruption.

    python benchmarks/robustness.py --model lgg --data kaggle_3m --split test -o benchmarks/robustness.md

Whole patients are corrupted as they are stored, bytes stay bytes, and then go the way of every scan: their intensities
are measured anew, and the mask is scored at the files' own pixels. Corruptions of intensity work where background is 0
and tissue 1, as augmentation does. A rotation turns image and truth alike. Writes the table, and a JSON and an SVG of
the same name beside it.
"""

import argparse
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from brainseg_keras.data import open_source
from brainseg_keras.data.inputs.fields import bias_field, make_coarser
from brainseg_keras.data.inputs.preprocessing import blur_images, intensity_range
from brainseg_keras.data.modalities import arrange_channels
from brainseg_keras.data.volumes import Volume, VolumeSource, is_seeded
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import compare_paired, interval_text
from brainseg_keras.files import check_output, write_json, write_text, write_whole
from brainseg_keras.inference import Predictor
from brainseg_keras.reports import evaluate

#: From a volume, a strength, the names of its channels and a generator to the corrupted volume.
Change = Callable[[Volume, Any, Sequence[str], np.random.Generator], Volume]
#: From images where background is 0 and tissue 1, a strength and a generator to such images.
TissueChange = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Corruption:
    """A way of making scans worse: its name, what its strength is, the strengths, and what it does."""

    name: str
    strength: str
    strengths: tuple[Any, ...]
    change: Change


def add_noise(tissue: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of this standard deviation."""
    return tissue + np.float32(strength) * rng.standard_normal(tissue.shape, np.float32)


def add_field(tissue: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply all slices by one bias field."""
    return tissue * bias_field(*tissue.shape[1:3], rng, strength)[..., np.newaxis]


def blur(tissue: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blur each slice."""
    return blur_images(tissue, strength)


def change_gamma(tissue: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Raise intensities to a power: background and tissue stay, what is brighter comes nearer or goes farther."""
    return np.maximum(tissue, 0) ** np.float32(strength)


def coarsen(tissue: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Make pixels so many times as wide."""
    for image in tissue:
        make_coarser(image, strength)
    return tissue


def change_gain(tissue: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply; what goes beyond the largest byte is lost."""
    return tissue * np.float32(strength)


def add_offset(tissue: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add so many times the tissue's level; what goes beyond a byte is lost."""
    return tissue + np.float32(strength)


def of_tissue(change: TissueChange) -> Change:
    """Let a change of intensities work where background is 0 and tissue 1, and bring back what is stored."""

    def changed(volume: Volume, strength: float, channels: Sequence[str], rng: np.random.Generator) -> Volume:
        low, high = volume.intensity.T
        tissue = (volume.images.astype(np.float32) - low) / (high - low)
        return with_images(volume, change(tissue, strength, rng) * (high - low) + low)

    return changed


def with_images(volume: Volume, images: np.ndarray) -> Volume:
    """Give a volume other images, stored as its own are, and measure them."""
    if volume.images.dtype == np.uint8:
        images = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    return replace(volume, images=images, intensity=intensity_range(images))


def rotate(volume: Volume, degrees: float, channels: Sequence[str], rng: np.random.Generator) -> Volume:
    """Turn each slice and its mask about the center, counterclockwise; background comes into view."""
    height, width = volume.masks.shape[1:]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    turned = np.empty(volume.images.shape, np.float32)
    for image, target in zip(volume.images.astype(np.float32), turned, strict=True):
        for index, background in enumerate(volume.intensity[:, 0].tolist()):
            target[..., index] = cv2.warpAffine(
                image[..., index], matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=background
            )
    masks = [cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST) for mask in volume.masks]
    return replace(with_images(volume, turned), masks=np.stack(masks))


def leave_out(volume: Volume, missing: Sequence[str], channels: Sequence[str], rng: np.random.Generator) -> Volume:
    """Take sequences away; another stands in for each, as for a scan that lacks them."""
    kept = [name for name in channels if name not in missing]
    images = volume.images[..., [list(channels).index(name) for name in kept]]
    return with_images(volume, arrange_channels(images, kept, channels, volume.patient)[0])


def corruptions(channels: Sequence[str]) -> list[Corruption]:
    """List the corruptions of scans with these sequences."""
    found = [
        Corruption("noise", "standard deviation, tissue is 1", (0.05, 0.1, 0.2, 0.4), of_tissue(add_noise)),
        Corruption("bias field", "its largest logarithm", (0.2, 0.4, 0.8), of_tissue(add_field)),
        Corruption("blur", "standard deviation in stored pixels", (1, 2, 4), of_tissue(blur)),
        Corruption("contrast", "gamma", (0.5, 0.7, 1.5, 2.0), of_tissue(change_gamma)),
        Corruption("rotation", "degrees", (5, 15, 30, 90), rotate),
        Corruption("low resolution", "stored pixels in one", (2, 3, 4), of_tissue(coarsen)),
        Corruption("gain", "factor", (0.25, 0.5, 2.0, 4.0), of_tissue(change_gain)),
        Corruption("offset", "added, tissue is 1", (-0.25, 0.5, 1.0), of_tissue(add_offset)),
    ]
    if len(channels) > 1:
        missing = [(name,) for name in channels]
        others = tuple(name for name in channels if name != "FLAIR")
        missing += [others] if 1 < len(others) < len(channels) else []
        found.append(Corruption("missing", "sequences taken away", tuple(missing), leave_out))
    return found


class CorruptedVolumes:
    """A source whose patients are corrupted, the same way each time.

    Args:
        source: Where the volumes come from.
        corruption: What is done to them.
        strength: How strongly.
        seed: With the patient's name it starts the generator, so that a stronger corruption differs in strength alone.
    """

    def __init__(self, source: VolumeSource, corruption: Corruption, strength: Any, seed: int = 0):
        self.table, self.channels, self.classes = source.table, source.channels, source.classes
        self.seeded = is_seeded(source)
        self._source, self._seed = source, seed
        self._corruption, self._strength = corruption, strength

    def volume(self, patient: str) -> Volume:
        """Read one patient and corrupt it."""
        rng = np.random.default_rng([self._seed, zlib.crc32(patient.encode())])
        return self._corruption.change(self._source.volume(patient), self._strength, self.channels, rng)


def known_by_name(predictor: Predictor) -> Predictor:
    """Let a network know its patients by name alone: their corrupted pixels are not those that it met."""
    roles = predictor.spec.roles
    known = tuple(replace(patient, slices=()) for patient in roles.patients)
    return predictor.adapted(roles=replace(roles, patients=known))


def measure(
    predictor: Predictor, source: VolumeSource, chosen: Sequence[Corruption], *, split: str, seed: int
) -> dict[str, Any]:
    """Score the patients as they are, then under each corruption; gives what the JSON holds."""
    clean = evaluate(predictor, source, split=split)
    before, rows, by_name = dice_of(clean.per_patient), [], known_by_name(predictor)
    for corruption in chosen:
        for strength in corruption.strengths:
            corrupted = CorruptedVolumes(source, corruption, strength, seed)
            after = dice_of(evaluate(by_name, corrupted, split=split).per_patient)
            change = compare_paired(after.tolist(), before.loc[after.index].tolist(), bounds=(0, 1))
            rows.append(
                {"corruption": corruption.name, "unit": corruption.strength, "strength": said(strength)}
                | {"mean": after.mean(), "worst": after.min(), "change": asdict(change), "dice": after.to_dict()}
            )
            print(f"{corruption.name} {said(strength)}: {after.mean():.3f}", file=sys.stderr, flush=True)
    heading = {"model": predictor.name, "split": split, "role": clean.report["role"], "seed": seed, "n": len(before)}
    return heading | {"mean": before.mean(), "worst": before.min(), "dice": before.to_dict(), "rows": rows}


def dice_of(per_patient: pd.DataFrame) -> pd.Series:
    """Give the Dice of each patient."""
    return per_patient.set_index("patient").dice


def said(strength: Any) -> str:
    """Say a strength in the head of its column."""
    return ", ".join(strength) if isinstance(strength, tuple) else f"{strength:g}"


def in_markdown(found: dict[str, Any], command: str, picture: str) -> str:
    """Write the tables."""
    apart = " They choose nothing here: the strengths were fixed beforehand, and no setting follows from this table."
    lines = [
        "# Robustness",
        "",
        f"`{command}`: mean Dice per patient of `{found['model']}` against the strength of each corruption. "
        f"n = {found['n']} patients everywhere, the split `{found['split']}` ({found['role']})."
        f"{apart if found['split'] == 'test' else ''}",
        "",
        "Whole patients are corrupted as they are stored (bytes stay bytes) with a fixed seed, and measured "
        "anew. The change is that of the mean, with its paired 95 % interval over patients. Noise, bias field, blur, "
        "contrast, resolution, gain and offset work where background is 0, tissue 1. A rotation turns the truth too, "
        "by the nearest pixel. FLAIR stands in for a sequence that is taken away, and the first one that is left for "
        "FLAIR, as in prediction.",
        "",
        f"![Dice against the strength of each corruption]({picture})",
    ]
    for name, rows in rows_by_corruption(found).items():
        changes = [row["change"] for row in rows]
        intervals = [interval_text(change["low"], change["high"], "+.3f") for change in changes]
        lines += ["", f"## {name.capitalize()}", ""]
        lines += [
            table_row(rows[0]["unit"], "none", [row["strength"] for row in rows]),
            "|---|" + "---:|" * (len(rows) + 1),
        ]
        lines += [
            table_row("mean Dice", f"{found['mean']:.3f}", [f"{row['mean']:.3f}" for row in rows]),
            table_row("change", "", [f"{change['difference']:+.3f}" for change in changes]),
            table_row("its 95 % interval", "", intervals),
            table_row("worst patient", f"{found['worst']:.3f}", [f"{row['worst']:.3f}" for row in rows]),
        ]
    return "\n".join(lines) + "\n"


def table_row(title: str, clean: str, cells: Sequence[str]) -> str:
    """Write one row."""
    return f"| {' | '.join([title, clean, *cells])} |"


def rows_by_corruption(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Put the rows of each corruption together."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        rows.setdefault(row["corruption"], []).append(row)
    return rows


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the mean Dice against the strength, with the interval of its change."""
    import matplotlib
    from matplotlib.figure import Figure

    groups = rows_by_corruption(found)
    figure = Figure(figsize=(10, 2.4 * -(-len(groups) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(groups) // 3), 3, sharey=True, squeeze=False).ravel()
    for axes in panels[len(groups) :]:
        axes.axis("off")
    for axes, (name, rows) in zip(panels, groups.items(), strict=False):
        places = range(len(rows))
        if rows[0]["change"]["low"] is not None:
            low, high = ([found["mean"] + row["change"][end] for row in rows] for end in ("low", "high"))
            axes.vlines(places, low, high, color="tab:blue", alpha=0.35, linewidth=3)
        axes.plot(places, [row["mean"] for row in rows], "o", color="tab:blue")
        axes.axhline(found["mean"], color="tab:gray", linestyle="--", linewidth=1)
        axes.set(title=name, xlabel=rows[0]["unit"], ylim=(0, 1))
        axes.set_xticks(places, [row["strength"] for row in rows], fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("mean Dice per patient")
    with matplotlib.rc_context({"svg.hashsalt": "robustness", "svg.fonttype": "none"}):
        write_whole(path, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


def main(words: Sequence[str] | None = None) -> None:
    """Score, and write the three files."""
    parser = argparse.ArgumentParser(description="Dice against the strength of each corruption.")
    parser.add_argument("--model", default="lgg", help="run folder, model file or shipped name")
    parser.add_argument("--data", required=True, help="the folder kaggle_3m, or whatever brainseg takes")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--seed", type=int, default=0, help="of noise and fields")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".md"), help="the table")
    options = parser.parse_args(words)
    output = check_output(options.output, "file")
    picture = output.with_suffix(".svg")
    source = open_source(options.data)
    found = measure(
        Predictor(options.model), source, corruptions(source.channels), split=options.split, seed=options.seed
    )
    command = f"python benchmarks/robustness.py --model {found['model']} --data {Path(options.data).name}"
    write_text(output, in_markdown(found, f"{command} --split {options.split} --seed {options.seed}", picture.name))
    write_json(output.with_suffix(".json"), found)
    draw(found, picture)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)

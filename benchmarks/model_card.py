"""The model card of the weights that ship, from their files: no figure in it is written by hand.

    python benchmarks/model_card.py --folds runs/five --table kaggle_3m/data.csv -o docs/model_card.md

Read are report.json and per_patient.csv of `brainseg out-of-fold runs/five` (`--report FOLDER` where they lie
elsewhere), the JSON of the shipped network, benchmarks/robustness.json, and the table of patients that comes with the
images: sex and age. Written are the card and, beside it, a picture of the figures (.svg). Of a patient there are a name
and figures in them, and no image. What cannot be computed stands in the template below.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainseg_keras.data.roles import Roles
from brainseg_keras.errors import InputError, reading
from brainseg_keras.evaluation import interval_text, summarize
from brainseg_keras.expectation import rank_correlation
from brainseg_keras.files import check_output, write_text, write_whole
from brainseg_keras.models.shipped import pretrained_info

HERE = Path(__file__).resolve().parent
#: Tissue source sites of TCGA, which a patient's name begins with.
INSTITUTIONS = {
    "CS": "Thomas Jefferson University",
    "DU": "Henry Ford Hospital",
    "EZ": "University of North Carolina",
    "FG": "Case Western Reserve University",
    "HT": "Case Western, St. Joseph's",
}
#: Fixed beforehand: of ages the lower ends, of sizes as many groups of equal number.
AGES, SIZES = (0, 40, 55), 3
SCORES = ("dice", "iou", "precision", "recall", "hd95", "average_surface_distance", "surface_dice")

TEMPLATE = """# Model card: `{name}`

<!-- Written by benchmarks/model_card.py. Change the script, and run it again. -->

`{architecture}` ({arguments}; {parameters:,} parameters) outlines lower-grade gliomas in axial slices of {channels}.
It ships with the package: `load_pretrained("{name}")`, and the default of `brainseg predict`, `evaluate` and
`export`; for Keras and as ONNX, with one JSON that has the checksums of both.

**License.** The weights are under {license}, as is the copy of the data from which they were trained: not for
commercial use, share alike, name the source. The code is Apache-2.0.

**Not for clinical use.** This is not a medical device. It must not guide a diagnosis or a treatment, and it must not
be run on patients of a hospital without a study that was approved for that.

## Data

The LGG MRI segmentation set (Buda, Saha, Mazurowski 2019; images of The Cancer Imaging Archive, TCGA-LGG): patients
of five institutions, one outline a slice by one reader, checked by a radiologist. {training}

## Results

{role} Scored at the files' own pixels, over whole patients ({n} of them); intervals are a studentized bootstrap over
patients ([rules](evaluation.md)). {distances}

{summary}

The tenth of the patients with the lowest Dice ({worst_n}) have a mean of {worst:.3f}.

| fold | patients | mean Dice | 95 % interval | median |
|---|---:|---:|---|---:|
{folds}

### By institution, sex, age and size

Small groups say little: read the intervals, not the means. Sizes are thirds of these patients. {sex_words}

{groups}

![Dice against size; recall against precision of the worst tenth]({picture})

### Failures

The worst tenth of the patients, the worst first. {failures_words}

{failures}

### Calibration

{calibration}

### Worse scans

{robustness}

## Limits

- Lower-grade gliomas before treatment, three sequences, axial slices, one public set. Other tumours, scanners and
  treated patients have not been tried here.
- One channel may stand in for the other two, and a lone slice may be segmented; both are less sure than a whole
  patient with three sequences.
- The volume and the diameter in `summary.csv` are those of the mask, with its errors.

## How these figures came about

```bash
brainseg out-of-fold FOLDS --tune
python benchmarks/model_card.py --folds FOLDS --table data.csv -o docs/model_card.md
```
"""


def read_report(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read what `brainseg out-of-fold` wrote.

    Raises:
        InputError: It is not there, or of something else.
    """
    cure = "Run brainseg out-of-fold FOLDS."
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        table = pd.read_csv(folder / "per_patient.csv")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no report that can be read ({error}). {cure}") from error
    with reading(folder, cure):
        if report["split"] != "out_of_fold" or len(table) != report["patients"]["dice"]["n"]:
            raise ValueError(f"a report of the split {report['split']!r}, {len(table)} rows")
    return report, table


def add_groups(table: pd.DataFrame, patients: pd.DataFrame | None) -> pd.DataFrame:
    """Say of each patient the institution, the size of the tumour, and where a table has them sex and age."""
    site = table.patient.str.extract(r"^TCGA_([A-Z0-9]{2})_", expand=False)
    names = site.map(INSTITUTIONS)
    institution = site.where(names.isna(), site + ", " + names).fillna("unknown")
    third = pd.qcut(table.volume_true.rank(method="first"), SIZES, labels=False)
    ends = table.volume_true.groupby(third).agg(["min", "max"])
    size = third.map({number: f"{row['min']:,.0f} to {row['max']:,.0f}" for number, row in ends.iterrows()})
    found = table.assign(institution=institution, size=size, size_order=third)
    if patients is None:
        return found.assign(sex="unknown", age="unknown")
    known = patients.set_index("Patient")
    # The table names a patient without the date.
    short = table.patient.str.replace(r"_\d{8}$", "", regex=True)
    codes = pd.to_numeric(short.map(known["gender"]), errors="coerce")
    years = pd.to_numeric(short.map(known["age_at_initial_pathologic"]), errors="coerce")
    sex = codes.map(lambda code: "unknown" if np.isnan(code) else f"code {code:.0f}")
    return found.assign(sex=sex, age=years.map(_age))


def _age(years: float) -> str:
    if np.isnan(years):
        return "unknown"
    index = int(np.searchsorted(AGES, years, side="right")) - 1
    last = index + 1 == len(AGES)
    return f"{AGES[index]} and above" if last else f"{AGES[index]} to {AGES[index + 1] - 1}"


def group_rows(table: pd.DataFrame) -> str:
    """Write a table of each group's Dice in Markdown."""
    rows = ["| group | patients | mean Dice | 95 % interval | median | worst |", "|---|---:|---:|---|---:|---:|"]
    for name in ("institution", "sex", "age", "size"):
        order = table.groupby(name).size_order.min() if name == "size" else table.groupby(name).size()
        for value in order.sort_values().index if name == "size" else sorted(order.index):
            dice = table.dice[table[name] == value]
            found = summarize(dice.tolist(), bounds=(0, 1))
            interval, ends = interval_text(found.low, found.high), f"{found.median:.3f} | {dice.min():.3f}"
            rows.append(f"| {name}: {value} | {found.n} | {found.mean:.3f} | {interval} | {ends} |")
    return "\n".join(rows)


def summary(report: Mapping[str, Any]) -> str:
    """Write the means over patients in Markdown."""
    rows = ["| score | mean | 95 % interval | median | n |", "|---|---:|---|---:|---:|"]
    for name in SCORES:
        s = report["patients"][name]
        interval = interval_text(s["low"], s["high"])
        rows.append(f"| {name} | {s['mean']:.3f} | {interval} | {s['median']:.3f} | {s['n']} |")
    return "\n".join(rows)


def patients(table: pd.DataFrame) -> str:
    """Write each patient's scores in Markdown, the worst first."""
    rows = ["| patient | Dice | precision | recall | HD95 | tumour |", "|---|---:|---:|---:|---:|---:|"]
    for row in table.sort_values("dice").itertuples():
        rows.append(
            f"| {row.patient} | {row.dice:.3f} | {row.precision:.3f} | {row.recall:.3f} | {row.hd95:.1f} | "
            f"{row.volume_true:,.0f} |"
        )
    return "\n".join(rows)


def fold_rows(report: Mapping[str, Any]) -> str:
    """Write the rows of the folds in Markdown."""
    return "\n".join(
        f"| {row['fold']} | {row['n']} | {row['mean']:.3f} | {interval_text(row['low'], row['high'])} | "
        f"{row['median']:.3f} |"
        for row in report["folds"]
    )


def worst_of(report: Mapping[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """Give the patients of the worst tenth."""
    return table.nsmallest(report["worst_tenth"]["n"], "dice")


def failures_words(worst: pd.DataFrame) -> str:
    """Say what the failures are made of."""
    little = int((worst.recall < worst.precision).sum())
    missed = int((worst.tp == 0).sum())
    return (
        f"In {little} of {len(worst)} too little is marked (recall below precision), in {len(worst) - little} too "
        f"much; in {missed} no voxel of the tumour was found."
    )


def calibration_words(report: Mapping[str, Any], table: pd.DataFrame) -> str:
    """Say how far probabilities may be believed, and how well doubts foretell a bad mask."""
    told = report["calibration"]
    said = f"Expected calibration error over all voxels in ten bins, out of fold: {told['before']:.3f} as it is"
    if told.get("after") is not None:
        said += (
            f", {told['after']:.3f} with a temperature and a bias that all other folds fitted (on all: "
            f"{told['temperature']:.2f} and {told['bias']:+.2f})"
        )
    for column, what in (("disagreement", "the disagreement with the mirror image"), ("confidence", "the confidence")):
        rank = rank_correlation(table[column], table.dice)
        said += "" if rank is None else f". Rank correlation of {what} with Dice: {rank:+.2f}"
    return f"{said} (n = {len(table)})."


def robustness_words(found: Mapping[str, Any] | None) -> str:
    """Say what the strongest of each corruption costs, where that was measured."""
    if found is None:
        return "Not measured for these weights."
    last = {row["corruption"]: row for row in found["rows"]}
    rows = "\n".join(
        f"| {name} | {row['strength']} | {row['mean']:.3f} | {row['change']['difference']:+.3f} |"
        for name, row in last.items()
    )
    return (
        f"`{found['model']}` on {found['n']} patients ({found['role']}): mean Dice {found['mean']:.3f} as they are, "
        "and with the strongest of each corruption ([all strengths](../benchmarks/robustness.md)):\n\n"
        f"| corruption | strength | mean Dice | change |\n|---|---|---:|---:|\n{rows}"
    )


def training_words(info: Mapping[str, Any]) -> str:
    """Say who made the weights that ship, and whose figures these are."""
    roles = Roles.from_info(info["roles"])
    counts = pd.Series([known.role for known in roles.patients]).value_counts().to_dict()
    if set(counts) == {"train"}:
        return (
            f"All {counts['train']} patients trained the network, by a recipe that was fixed beforehand; nobody chose "
            "its epoch, and nobody is left to score it. The figures below are those of its twins: networks of the same "
            "recipe, each scored on patients that it never met."
        )
    said = ", ".join(f"{counts[role]} {role}" for role in ("train", "val", "tuned", "test") if role in counts)
    return (
        f"Of the weights that ship the patients are {said}. The figures below are not theirs, but those of "
        "networks that were trained on folds of the same set, each scored on patients that it never met."
    )


def write_card(
    report: Mapping[str, Any],
    table: pd.DataFrame,
    output: Path,
    *,
    name: str = "lgg",
    people: pd.DataFrame | None = None,
    robustness: Mapping[str, Any] | None = None,
) -> None:
    """Write the card and its picture."""
    info, grouped = pretrained_info(name), add_groups(table, people)
    worst, picture = worst_of(report, table), output.with_suffix(".svg")
    slice_by_slice = "slice by slice" in str(report.get("distances", ""))
    text = TEMPLATE.format(
        name=name,
        architecture=info["architecture"],
        arguments=", ".join(f"{key} {value}" for key, value in info["arguments"].items() if value not in (None, False)),
        parameters=info["parameters"],
        channels=", ".join(info["channels"]),
        license=info["license"],
        training=training_words(info),
        role=f"Role: {report['role']}.",
        n=report["patients"]["dice"]["n"],
        distances="The files hold no spacing: distances are in pixels, slice by slice." if slice_by_slice else "",
        summary=summary(report),
        worst_n=report["worst_tenth"]["n"],
        worst=report["worst_tenth"]["mean"],
        folds=fold_rows(report),
        sex_words="Sex is as data.csv codes it, which does not say what its codes mean."
        if people is not None
        else "Sex and age were not at hand.",
        groups=group_rows(grouped),
        picture=picture.name,
        failures_words=failures_words(worst),
        failures=patients(worst),
        calibration=calibration_words(report, table),
        robustness=robustness_words(robustness),
    )
    draw(grouped, worst, picture)
    write_text(output, re.sub(r" +\n", "\n", text))


def draw(table: pd.DataFrame, worst: pd.DataFrame, path: Path) -> None:
    """Draw Dice against the size of the tumour, and precision and recall of the failures; the same bytes each time."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for institution, rows in table.groupby("institution"):
        left.scatter(rows.volume_true.clip(lower=1), rows.dice, s=14, label=institution.partition(",")[0])
    left.set(xscale="log", xlabel="size of the tumour", ylabel="Dice", ylim=(0, 1), title="Each patient, out of fold")
    left.legend(frameon=False, fontsize="small")
    right.scatter(table.recall, table.precision, s=8, color="lightgray", label="others")
    right.scatter(worst.recall, worst.precision, s=24, color="tab:red", label="worst tenth")
    right.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), title="Failures: too little, or too much")
    right.legend(frameon=False, fontsize="small")
    with matplotlib.rc_context({"svg.hashsalt": "model card", "svg.fonttype": "none"}):
        write_whole(path, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


def main(words: list[str] | None = None) -> None:
    """Read the files and write the card."""
    parser = argparse.ArgumentParser(description="Write the model card of the weights that ship.")
    parser.add_argument("--folds", type=Path, help="folder of brainseg train --folds, with its out-of-fold report")
    parser.add_argument("--report", type=Path, help="folder of the report, where it lies elsewhere")
    parser.add_argument("--table", type=Path, help="data.csv beside the images: sex and age of the patients")
    parser.add_argument("--name", default="lgg", help="of the shipped weights")
    parser.add_argument("--robustness", type=Path, default=HERE / "robustness.json", help="what robustness.py wrote")
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs" / "model_card.md", help="the card")
    options = parser.parse_args(words)
    if (options.folds is None) == (options.report is None):
        parser.error("give --folds or --report")
    folder = options.report or options.folds / "evaluation" / "out_of_fold"
    report, table = read_report(folder)
    # The table comes with commas, or with semicolons.
    people = None if options.table is None else pd.read_csv(options.table, sep=None, engine="python")
    there = options.robustness.is_file()
    robustness = json.loads(options.robustness.read_text(encoding="utf-8")) if there else None
    output = check_output(options.output, "file")
    write_card(report, table, output, name=options.name, people=people, robustness=robustness)
    print(f"{output}: {len(table)} patients")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")

"""The table of examples/compare_architectures.py, from the report.json of its rows alone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import compare_paired, interval_text
from brainseg_keras.files import write_json, write_text
from brainseg_keras.information import read_json

#: The network on which losses are compared; its row of the first group is that of the default loss.
OF_LOSSES = "attention_res_unet"
GROUPS = ("network", "published normalization", "loss", "other package")
#: What must be the same in all rows of a table.
SHARED = ("minutes", "filters", "size", "batch_size", "seed")
SCORES = ("dice", "iou", "precision", "recall", "pixel_accuracy", "hd95")
#: A slice's time is that of so many together.
TOGETHER = 16
BEGIN, END = "<!-- table of compare_architectures.py: begin -->", "<!-- table of compare_architectures.py: end -->"
MARK = "compare_architectures.py"


def read_reports(folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """Read the reports of all rows that have one; those that were trained otherwise do not stand in one table."""
    reports = [read_json(file) for name in names if (file := folder / name / "report.json").is_file()]
    if not reports:
        raise InputError(f"{folder} holds no row's report.json. Train some rows first, or give their folder: -o.")
    rules = {
        (*(report["row"][name] for name in SHARED), report["report"]["split"], report["run"]["machine"]["processor"])
        for report in reports
    }
    if len(rules) > 1:
        said = "; ".join(map(str, sorted(rules)))
        raise InputError(
            f"The rows in {folder} differ in {', '.join(SHARED)}, split or processor: {said}. Keep those of one kind."
        )
    return reports


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """Take a row's figures from its report."""
    found, config = report["report"]["patients"], report["run"].get("config", {})
    dice = found["dice"]
    row = {name: report["row"][name] for name in ("name", "group", "title")}
    row |= {"separable": config.get("separable", False), "norm_per_step": bool(config.get("norm_per_step"))}
    row |= {f"dice_{name}": dice[name] for name in ("mean", "low", "high", "median")}
    row |= {name: found[name]["mean"] for name in SCORES[1:]} | {"n": dice["n"]}
    return row | {name: report["run"][name] for name in ("parameters", "gflops", "ms_a_slice")}


def markdown(reports: list[dict[str, Any]]) -> str:
    """Write the table in Markdown, each group by falling mean."""
    head = ["Dice, mean", "95 % interval", "median", "IoU", "precision", "recall", "pixel accuracy"]
    head += [f"HD95, {reports[0]['report']['unit']}", "parameters", "GFLOPs at 256 x 256", "ms a slice", "n"]
    lines = [conditions(reports[0])]
    for group in GROUPS:
        rows = [figures(report) for report in reports if report["row"]["group"] == group]
        if group == GROUPS[2]:
            rows += [figures(r) | {"title": "`dice_focal`"} for r in reports if rows and r["row"]["name"] == OF_LOSSES]
        if not rows:
            continue
        lines += ["", f"| {' | '.join([group, *head])} |", f"|---|{'---:|' * len(head)}"]
        for found in sorted(rows, key=lambda found: -found["dice_mean"]):
            kind = ", separable" * found["separable"] + ", a normalization for each step" * found["norm_per_step"]
            cells = [found["title"] + kind, f"{found['dice_mean']:.3f}"]
            cells.append(interval_text(found["dice_low"], found["dice_high"]))
            cells += [f"{found[name]:.3f}" for name in ("dice_median", "iou", "precision", "recall")]
            cells += [f"{found['pixel_accuracy']:.4f}", f"{found['hd95']:.1f}", f"{found['parameters']:,}"]
            cells += [f"{found['gflops']:.1f}", f"{found['ms_a_slice']:.1f}", str(found["n"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *advice(reports), ""])


def conditions(report: dict[str, Any]) -> str:
    """Say how all rows were trained and scored, from the report of one."""
    row, machine, found = report["row"], report["run"]["machine"], report["report"]
    return (
        f"{row['minutes']:g} minutes each, first width {row['filters']}, {row['size']} x {row['size']} pixels, batches "
        f"of {row['batch_size']}, on {machine['processor']}, {machine['cores']} cores. Means over the patients of "
        f"`{found['split']}` ({found['role']}); those of `val` chose each checkpoint. A missed or an invented tumour "
        f"costs the diagonal in HD95. Times are of slices of that size, {TOGETHER} together."
    )


def advice(reports: list[dict[str, Any]]) -> list[str]:
    """Say what to take for what: of the networks that a paired interval does not tell from the best, the cheapest."""
    networks = [report for report in reports if report["row"]["group"] == GROUPS[0]]
    if len(networks) < 2:
        return []
    dices = [{row["patient"]: row["dice"] for row in report["per_patient"]} for report in networks]
    best = max(range(len(networks)), key=lambda index: figures(networks[index])["dice_mean"])
    alike = []
    for report, dice in zip(networks, dices, strict=True):
        pair = compare_paired([dices[best][patient] for patient in dice], list(dice.values()), bounds=(0, 1))
        if report is networks[best] or (pair.low is not None and pair.low <= 0):
            alike.append(figures(report))
    cheapest = {
        words: min(alike, key=lambda found: found[name])["name"]
        for words, name in {"fewest parameters": "parameters", "the least time": "ms_a_slice"}.items()
    }
    told = ", ".join(f"{name} has {words}" for words, name in cheapest.items())
    return [
        f"Highest mean of the networks: {networks[best]['row']['name']}. Of {len(networks) - 1} others the 95 % "
        f"interval of the paired difference does not tell {len(alike) - 1} from it; of these and itself {told}."
    ]


def write_table(folder: Path, names: Iterable[str], readme: str | None = None) -> Path:
    """Write table.md and table.json of the rows of these names, and the table in a README; gives table.md."""
    reports = read_reports(folder, names)
    text = markdown(reports)
    write_text(folder / "table.md", f"# Networks compared\n\nWritten by `{MARK}`.\n\n{text}", mark=MARK)
    write_json(folder / "table.json", {"by": MARK, "rows": [figures(report) for report in reports]}, mark=MARK)
    if readme:
        whole = Path(readme).read_text(encoding="utf-8")
        before, begin, rest = whole.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise InputError(f"{readme} has no place for the table. Write these two lines: {BEGIN} and {END}")
        write_text(readme, f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    return folder / "table.md"

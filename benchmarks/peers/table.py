"""From measured seconds to a Markdown table: medians, spread, rates, ratios. Arithmetic alone."""

from collections.abc import Iterable
from statistics import median
from typing import Any

#: A training step costs the forward pass, and about as much again for the gradient of each input and of each weight.
PASSES = {"train": 3, "infer": 1}
TITLES = {"unet": "U-Net", "attention_unet": "attention U-Net", "r2_unet": "R2U-Net"}
WORDS = {"train": "training step", "infer": "inference"}
Record = dict[str, Any]


def spread(seconds: list[float]) -> float:
    """Give the largest less the smallest, as a share of the median."""
    return (max(seconds) - min(seconds)) / median(seconds)


def images_a_second(record: Record) -> float:
    """Give how many images a network's record does in a second, by its median."""
    return record["batch"] / median(record["seconds"])


def rate(record: Record) -> float:
    """Give the GFLOP/s of a network's record: comparable whatever each network costs."""
    return images_a_second(record) * record["flops"] * PASSES[record["work"]] / 1e9


def fastest(records: Iterable[Record], measure) -> Record | None:
    """Give the record of the largest measure, of those that were measured."""
    return max((record for record in records if record.get("seconds")), key=measure, default=None)


def of_kinds(records: Iterable[Record], *kinds: str) -> list[Record]:
    """Give the records of some kinds of contender."""
    return [record for record in records if record["kind"] in kinds]


def ratio(records: list[Record], measure, *others: str) -> float | None:
    """Give our best over the best of other kinds; None where either is missing."""
    ours, other = fastest(of_kinds(records, "ours"), measure), fastest(of_kinds(records, *others), measure)
    return measure(ours) / measure(other) if ours and other else None


def row_of(record: Record) -> tuple:
    """Say which records stand in one table."""
    return tuple(record[name] for name in ("work", "network", "size", "batch", "width"))


def grouped(records: list[Record]) -> dict[tuple, list[Record]]:
    """Put the records of networks into their rows, in the order of measuring."""
    rows: dict[tuple, list[Record]] = {}
    for record in records:
        rows.setdefault(row_of(record), []).append(record)
    return rows


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} x"


def _table(head: list[str], lines: list[list[str]]) -> list[str]:
    align = ["---" if index == 0 else "---:" for index in range(len(head))]
    return ["", *(f"| {' | '.join(cells)} |" for cells in (head, align, *lines))]


def summary(rows: dict[tuple, list[Record]], matrix: float) -> list[str]:
    """Compare our best with the best other of each row, at equal FLOPs."""
    head = ["work", "size", "batch", "width", "ours, GFLOP/s", "of the matrix product", "fastest other", "to it"]
    lines = []
    for (work, network, size, batch, width), records in rows.items():
        ours, other = (fastest(of_kinds(records, *kinds), rate) for kinds in (("ours",), ("keras", "torch")))
        lines.append(
            [
                f"{TITLES[network]}, {WORDS[work]}",
                str(size),
                str(batch),
                str(width),
                f"{rate(ours):.0f} ({ours['title'].removeprefix('brainseg_keras, ')})" if ours else "not measured",
                f"{rate(ours) / matrix:.0%}" if ours and matrix else "",
                f"{rate(other):.0f} ({other['title']})" if other else "not measured",
                _times(ratio(records, rate, "keras", "torch")),
                _times(ratio(records, rate, "keras")),
            ]
        )
    return _table([*head, "to the fastest Keras"], lines)


def network_rows(records: list[Record], matrix: float) -> list[str]:
    """Write all contenders of one row, the fastest at equal FLOPs first."""
    head = ["contender", "format", "GFLOP an image", "images/s", "spread", "GFLOP/s", "of the matrix product"]
    best, lines = fastest(of_kinds(records, "ours"), rate), []
    done = sorted((record for record in records if record.get("seconds")), key=rate, reverse=True)
    for record in done:
        lines.append(
            [
                record["title"],
                record["precision"],
                f"{record['flops'] / 1e9:.2f}",
                f"{images_a_second(record):.2f}",
                f"{spread(record['seconds']):.0%}",
                f"{rate(record):.0f}",
                f"{rate(record) / matrix:.0%}" if matrix else "",
                _times(rate(best) / rate(record) if best and record["kind"] != "ours" else None),
            ]
        )
    lines += [[r["title"], r["precision"], f"not measured: {r['error']}", *[""] * 5] for r in records if r.get("error")]
    return _table([*head, "our best to it"], lines)


def plain_rows(records: list[Record], unit: str) -> list[str]:
    """Write records of things a second (`amount` in `seconds`) or of seconds alone, where there is no amount."""
    best, lines = fastest(of_kinds(records, "ours"), _speed), []
    done = sorted((record for record in records if record.get("seconds")), key=_speed, reverse=True)
    for record in done:
        value = _speed(record) if record.get("amount") else median(record["seconds"])
        compared = _times(_speed(best) / _speed(record) if best and record["kind"] != "ours" else None)
        lines.append([record["title"], f"{value:.3g}", f"{spread(record['seconds']):.0%}", compared])
    lines += [[r["title"], f"not measured: {r['error']}", "", ""] for r in records if r.get("error")]
    return _table(["contender", unit, "spread", "our best is faster by"], lines)


def _speed(record: Record) -> float:
    return record.get("amount", 1) / median(record["seconds"])


def memory_rows(records: list[Record]) -> list[str]:
    """Write the largest memory of each process."""
    head = ["contender", "network", "training step, MB", "inference, MB"]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for record in records:
        shown = f"{record['megabytes']:.0f}" if "megabytes" in record else f"not measured: {record['error']}"
        lines.setdefault((record["title"], TITLES[record["network"]]), {})[record["work"]] = shown
    return _table(head, [[*names, *(found.get(work, "") for work in WORDS)] for names, found in lines.items()])

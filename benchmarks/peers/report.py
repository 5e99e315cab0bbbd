"""The page that benchmarks/peers.py writes, from what it measured."""

from collections.abc import Callable
from typing import Any

from peers import table

HOW = """Written by `python benchmarks/peers.py`. Medians of {rounds} rounds that go from one contender to the next,
each in a process and environment of its own; spread is the largest less the smallest, over the median. All compute on
{cores} cores and get the same images and masks, Adam and cross-entropy (`brainseg train` has its own loss, metric and
gradient norm on top). GFLOP are multiplications and additions of convolutions and matrix products, counted from the
graph; a training step counts three forward passes. Packages whose encoder cannot be chosen narrower have ResNet-18
there, and the widths in the decoder alone: compare GFLOP/s. PyTorch's networks are channels last; compiled ones have
their weights frozen for inference. oneDNN is on in every TensorFlow. Number formats: {precisions}; bfloat16 is tried
where the processor multiplies it. GPU: not measured."""


def report(result: dict[str, Any]) -> str:
    """Write the page.

    Args:
        result: What peers.json holds.

    Returns:
        Markdown.
    """
    machine, settings, records = result["machine"], result["settings"], result["records"]
    matrix = max((entry["gflops"] for entry in result["matrix"]), default=0.0)
    how = HOW.format(rounds=settings["rounds"], cores=machine["cores"], precisions=", ".join(settings["precisions"]))
    lines = ["# This package and its peers", "", how, "", *_machine(result, matrix)]
    parts = {name: [record for record in records if record["section"] == name] for name in SECTIONS}
    for name, (title, write) in SECTIONS.items():
        if parts[name]:
            lines += ["", f"## {title}", *write(parts[name], matrix)]
    return "\n".join([*lines, ""])


def _machine(result: dict[str, Any], matrix: float) -> list[str]:
    machine = result["machine"]
    flags = ", ".join(machine["flags"]) or "none of AVX2, AVX-512, AMX"
    best = max(result["matrix"], key=lambda entry: entry["gflops"], default=None)
    product = f"{matrix:.0f} GFLOP/s ({best['library']})" if best else "not measured"
    lines = [
        f"Machine: {machine['processor']}, {machine['cores']} cores, {flags}; {machine['system']}, Python "
        f"{machine['python']}. Its float32 matrix product, best of all libraries: {product}. The run took "
        f"{result['minutes']} minutes.",
        "",
    ]
    return lines + [
        f"- {name}: {', '.join(f'{package} {version}' for package, version in versions.items()) or 'not installed'}"
        for name, versions in result["versions"].items()
    ]


def _networks(records: list, matrix: float) -> list[str]:
    rows = table.grouped(records)
    lines = table.summary(rows, matrix)
    for (work, network, size, batch, width), row in rows.items():
        title = f"{table.TITLES[network]}, {table.WORDS[work]}: {size}x{size}, batch {batch}, width {width}"
        lines += ["", f"### {title}", *table.network_rows(row, matrix)]
    return lines


def _growth(records: list, matrix: float) -> list[str]:
    return table.summary(table.grouped(records), matrix)


def _plain(unit: str) -> Callable[[list, float], list[str]]:
    return lambda records, matrix: table.plain_rows(records, unit)


SECTIONS = {
    "networks": ("Training step and inference", _networks),
    "growth": ("Growth with size, batch and width: the fastest of ours and of the others", _growth),
    "augment": (
        "Augmentation of image and mask, on one core: 256x256x3, rotation, flip, zoom",
        _plain("images/s"),
    ),
    "volume": (
        "A patient's files to its masks, warm: the shipped network with its mirror image",
        _plain("slices/s"),
    ),
    "slice": (
        "One slice to its mask, from a cold process: 128 pixels, with its mirror image",
        _plain("seconds"),
    ),
    "batches": (
        "Files to the first training batch, from a cold process: 16 slices of 256 pixels, augmented",
        _plain("seconds"),
    ),
    "memory": ("Peak memory of a fresh process", lambda records, matrix: table.memory_rows(records)),
}

"""What the bookkeeping of a large archive costs: a ledger of a million scans, written by a thousand parts.

    python benchmarks/ledger.py

No network runs: the ledger's files and empty masks are written as `predict` does, 1,000 folders of 1,000 scans each,
each part in a file of its own; 1 % of the scans are left out, 0.1 % failed, of 0.1 % the mask is gone and 0.1 % are of
another model. Then each question is asked by a process of its own, whose seconds and peak of memory are taken. Writes
ledger.md.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from brainseg_keras.data.scan_lists import gather
from brainseg_keras.inference.ledger import Entry, Key, Ledger
from brainseg_keras.inference.status import find_status
from brainseg_keras.parts import Part

HERE = Path(__file__).resolve().parent
KEY, OTHER = Key("a" * 64, "b" * 16), Key("c" * 64, "b" * 16)
QUESTIONS = {
    "list": "read the list of all scans (CSV)",
    "part": "read the list, and find the scans of one part",
    "decide": "`--continue`: read the list, and find what is left to do, masks on disk looked at",
    "status": "`--status`",
    "join": "write ledger.csv and summary.csv, once at the end",
}


def make(folder: Path, scans: int, parts: int) -> None:
    """Write a list, and the ledger and the masks of all parts."""
    ids = [f"site_{number % 1000:03}/patient_{number:07}" for number in range(scans)]
    (folder / "list.csv").write_text("path,id\n" + "".join(f"/archive/{id}/flair.nii.gz,{id}\n" for id in ids))
    for number in range(1000):
        (folder / "out" / f"site_{number:03}").mkdir(parents=True)
    for part in range(parts):
        ledger = Ledger(folder / "out")
        # As the hash of an id would, but quicker.
        for number in range(part, scans, parts):
            write(folder / "out", ledger, ids[number], (number * 7919) % 1000)
        ledger.close()


def write(out: Path, ledger: Ledger, id: str, lot: int) -> None:
    """Write one scan, or what went wrong with it."""
    if lot < 10:
        return
    mask, time_said = f"{id}_mask.nii.gz", f"2026-12-01T00:00:00.{lot:06}+00:00"
    row = {"file": f"/archive/{id}/flair.nii.gz", "tumour_size": 12345, "size_unit": "voxels", "tumour_ml": 12.345}
    row |= {"largest_diameter": 34.56789, "diameter_unit": "mm", "confidence": 0.9123456789, "mask": f"masks/{mask}"}
    failed = lot == 10
    ledger.append(
        Entry(
            id,
            "failed" if failed else "done",
            3.21,
            "d" * 64,
            OTHER if lot == 12 else KEY,
            "onnx",
            () if failed else (mask,),
            "node-17",
            time_said,
            () if failed else (row,),
            {row["file"]: f"{row['file']} cannot be read: it ends early. Restore it."} if failed else {},
        )
    )
    if lot != 11 and not failed:
        (out / mask).touch()


def ask(question: str, folder: Path) -> dict:
    """Do one thing, in this process, and say what it took."""
    began, computed = time.perf_counter(), time.process_time()
    found = None
    if question == "join":
        Ledger(folder / "out").join()
    elif question == "status":
        found = find_status(folder / "out").counts
    else:
        wanted = gather([folder / "list.csv"])
        if question == "part":
            wanted = wanted.of_part(Part(1, 1000))
        if question == "decide":
            standing = Ledger(folder / "out").standing(wanted.ids, KEY)
            found = dict(Counter(standing.tolist()))
            wanted = wanted.where(standing != "done")
            wanted.scans()
        found = found or len(wanted)
    seconds, computing = time.perf_counter() - began, time.process_time() - computed
    # Not ru_maxrss, which begins at what the parent had.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000
    return {"seconds": seconds, "computing": computing, "found": found, "memory_mb": peak}


def main() -> None:
    """Make the archive, ask, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=1_000)
    parser.add_argument("--ask", choices=QUESTIONS, help="one question, of an archive that is made (--folder)")
    parser.add_argument("--folder", type=Path, help="where to make the archive, and keep it")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "ledger.md")
    given = parser.parse_args()
    if given.ask:
        print(json.dumps(ask(given.ask, given.folder)))
        return
    # It loads TensorFlow, which would count as memory of each question.
    from brainseg_keras.training.machine import processor

    folder = given.folder or Path(tempfile.mkdtemp(prefix="brainseg-ledger-"))
    try:
        began = time.perf_counter()
        if not (folder / "out").exists():
            make(folder, given.scans, given.parts)
        writing = time.perf_counter() - began
        size = sum(file.stat().st_size for file in (folder / "out" / "ledger").rglob("*.csv"))
        rows = [describe(question, folder) for question in QUESTIONS]
    finally:
        if given.folder is None:
            shutil.rmtree(folder)
    text = (
        f"# The ledger of a large archive\n\n`python benchmarks/ledger.py`, on {processor()}, 2 cores: {given.scans:,} "
        f"scans in {given.parts:,} parts, a ledger of {size / 2**20:,.0f} MiB. Each line a process of its own.\n\n"
        "| what | seconds | of these on a processor | peak of memory, MB | found |\n|---|---:|---:|---:|---|\n"
        + "\n".join(rows)
        + "\n\n"
        f"To write it, with an empty file for each mask, took {writing:,.0f} s: "
        f"{1e6 * writing / given.scans:,.0f} µs a scan.\n"
    )
    given.output.write_text(text, encoding="utf-8")
    print(text)


def describe(question: str, folder: Path) -> str:
    """Ask in a fresh process; gives a row of the table."""
    command = [sys.executable, __file__, "--ask", question, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    found = answer["found"]
    said = ", ".join(f"{count:,} {what}" for what, count in found.items()) if isinstance(found, dict) else found or ""
    took = f"{answer['seconds']:.1f} | {answer['computing']:.1f} | {answer['memory_mb']:,.0f}"
    return f"| {QUESTIONS[question]} | {took} | {said} |"


if __name__ == "__main__":
    main()

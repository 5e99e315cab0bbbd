"""What is measured in what order: rows of contenders, in rounds that go from one to the next."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import contenders, table
from peers.channel import Worker, WorkerError
from peers.contenders import Cold, Contender
from peers.environments import REPOSITORY, Environment, prepare

COLD = Path(__file__).with_name("cold.py")
Record = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Args:
        rounds: Times each contender of a row is timed, one after the other.
        size: Side of the images in pixels.
        batches: Batch sizes of the networks.
        width: Of the first level.
        seconds: That one timing fills, at least one step.
        growth: Rows of (size, batch, width) that the fastest are also timed at.
        growth_rounds: Their rounds.
        patients: Of the phantom.
        slices: Of each patient.
        precisions: Number formats that are tried; the faster counts.
        networks: Which are timed; how they grow is asked of the attention U-Net.
    """

    rounds: int = 5
    size: int = 256
    batches: tuple[int, ...] = (1, 8)
    width: int = 16
    seconds: float = 1.0
    growth: tuple[tuple[int, int, int], ...] = ((128, 8, 16), (512, 8, 16), (256, 16, 16), (256, 8, 8), (256, 8, 32))
    growth_rounds: int = 2
    patients: int = 12
    slices: int = 20
    precisions: tuple[str, ...] = ("float32",)
    networks: tuple[str, ...] = contenders.ALL


class Bench:
    """Holds environments and workers, and collects records.

    Args:
        folder: Where environments are kept.
        settings: How much is measured.
    """

    def __init__(self, folder: Path, settings: Settings):
        self.settings = settings
        self.records: list[Record] = []
        self.matrix: list[Record] = []
        #: What networks cost, so that each is counted once.
        self._facts: dict[tuple, Record] = {}
        self._exported: dict[tuple, Record] = {}
        self._folder = folder
        self._environments: dict[str, Environment] = {}
        self._workers: dict[str, Worker] = {}
        self._scratch = Path(tempfile.mkdtemp(prefix="peers-"))

    def close(self) -> None:
        """End all workers and remove scratch files."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """Versions of each environment that was used."""
        return {name: environment.versions for name, environment in self._environments.items()}

    def environment(self, name: str) -> Environment:
        """Make an environment, once."""
        if name not in self._environments:
            self._environments[name] = prepare(self._folder, name)
        environment = self._environments[name]
        if environment.error:
            raise WorkerError(environment.error)
        return environment

    def _variables(self, environment: str, given: dict[str, str]) -> dict[str, str]:
        # Compiled networks are kept: the second run of this script starts much sooner.
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(self._folder / "inductor"), "PYTHONHASHSEED": "0"}
        return given | cache | {"PYTHONPATH": str(REPOSITORY) if environment == "ours" else ""}

    def worker(self, contender: Contender) -> Worker:
        """Start a contender's process, or give the one that runs."""
        worker = self._workers.get(contender.title)
        if worker is None or not worker.alive:
            python = self.environment(contender.environment).python
            variables = self._variables(contender.environment, contender.variables)
            log = self._folder / "logs" / f"{contender.title.replace('`', '').replace(' ', '_').replace('/', '_')}.log"
            log.parent.mkdir(exist_ok=True)
            worker = self._workers[contender.title] = Worker(python, contender.side, contender.options, variables, log)
        return worker

    def rest(self, *keep: str) -> None:
        """End the workers whose work is done; their memory is wanted."""
        for title in [title for title in self._workers if title not in keep]:
            self._workers.pop(title).close()

    def row(self, entries: Iterable[tuple[Contender, Record]], rounds: int, seconds: float) -> list[Record]:
        """Prepare all contenders of a row, then time them turn by turn.

        Args:
            entries: Contenders with what their records and jobs hold.
            rounds: How often each is timed.
            seconds: That one timing fills.

        Returns:
            Their records, with `seconds`, one a round, or `error`.
        """
        records, ready = [], []
        for contender, job in entries:
            record = {"title": contender.title, "kind": contender.kind, "seconds": [], **job}
            records.append(record)
            which = (contender.environment, contender.title, *(job.get(n) for n in ("network", "size", "width")))
            try:
                asked = {"do": "prepare", "folder": str(self._scratch), "facts": self._facts.get(which)} | job
                record |= self.worker(contender).ask(asked)
                self._facts[which] = {name: record[name] for name in ("flops", "parameters") if name in record}
                ready.append((contender, record))
            except WorkerError as error:
                record["error"] = str(error)
            say(f"  {contender.title}: {record.get('error') or 'ready after'} {record.get('prepared', '')}")
        for _ in range(rounds):
            for contender, record in ready:
                if "error" not in record:
                    try:
                        timing = self.worker(contender).ask({"do": "measure", "seconds": seconds})
                        record["seconds"].append(timing["seconds"])
                    except WorkerError as error:
                        record["error"], record["seconds"] = str(error), []
        for contender, _ in ready:
            with suppress(WorkerError):
                self.worker(contender).ask({"do": "drop"})
        self.records += records
        return records

    def section(self, name: str) -> None:
        """Measure one section by its name."""
        {"networks": self.networks, "augment": self.augmentation, "files": self.files, "memory": self.memory}[name]()

    def matrices(self) -> None:
        """Time the machine's own matrix product in each library."""
        for contender in (contenders.NETWORKS[2], contenders.NETWORKS[5], contenders.NETWORKS[-1]):
            with suppress(WorkerError):
                found = self.worker(contender).ask({"do": "call", "function": "matrices"})
                self.matrix.append(found)
                say(f"matrix product: {found['gflops']:.0f} GFLOP/s by {found['library']}")

    def networks(self) -> None:
        """Time training and inference of all networks, and how the fastest two grow."""
        settings = self.settings
        for work in ("train", "infer"):
            done: dict[str, list[Record]] = {}
            for network in settings.networks:
                for batch in settings.batches:
                    wanted = [c for c in contenders.NETWORKS if network in c.networks and work in c.works]
                    shape = (settings.size, batch, settings.width)
                    done[network] = self._network_row(wanted, work, network, shape, settings.rounds)
                self.matrices()
            fastest = self._fastest(done.get("attention_unet", []))
            self.rest(*(contender.title for contender in fastest))
            for shape in settings.growth:
                self._network_row(fastest, work, "attention_unet", shape, settings.growth_rounds, section="growth")
            self.rest()

    def _fastest(self, records: list[Record]) -> list[Contender]:
        best = [table.fastest(table.of_kinds(records, *kinds), table.rate) for kinds in (("ours",), ("keras", "torch"))]
        titles = [record["title"] for record in best if record]
        return [contender for contender in contenders.NETWORKS if contender.title in titles]

    def _network_row(
        self,
        wanted: list[Contender],
        work: str,
        network: str,
        shape: tuple[int, int, int],
        rounds: int,
        section: str = "networks",
    ) -> list[Record]:
        size, batch, width = shape
        say(f"{network}, {work}, {size} pixels, batch {batch}, width {width}")
        row = {"section": section, "work": work, "network": network, "size": size, "batch": batch, "width": width}
        exported = self._export(row) if any(c.options.get("engine") in ("onnx", "openvino") for c in wanted) else {}
        entries = []
        for contender in wanted:
            from_file = contender.options.get("engine") in ("onnx", "openvino")
            # An exported network has the number format of its engine.
            formats = ("float32",) if from_file else self.settings.precisions
            extra = contender.job | (exported if from_file else {})
            entries += [(contender, row | extra | {"precision": precision}) for precision in formats]
        records = []
        for contender_entries in _one_format_a_time(entries):
            records += self.row(contender_entries, rounds, self.settings.seconds)
        return records

    def _export(self, row: Record) -> Record:
        """Write a network as ONNX, once; say where it is and what it costs."""
        which = tuple(row.get(name) for name in ("network", "size", "width"))
        if which not in self._exported:
            job = {"do": "call", "function": "export", "precision": "float32", "folder": str(self._scratch)}
            with suppress(WorkerError):
                self._exported[which] = self.worker(contenders.NETWORKS[2]).ask(row | job)
        return self._exported.get(which, {})

    def augmentation(self) -> None:
        """Time augmentation, each contender on one core."""
        say("augmentation")
        seconds = max(2.0, 2 * self.settings.seconds)
        entries = [(c, {"section": "augment", "work": "augment", "amount": 16}) for c in contenders.AUGMENTATION]
        self.row(entries, self.settings.rounds, seconds)
        self.rest()

    def _phantom(self) -> Record:
        settings = self.settings
        job = {"patients": settings.patients, "slices": settings.slices, "size": 256, "folder": str(self._scratch)}
        return self.worker(contenders.NETWORKS[2]).ask({"do": "call", "function": "phantom"} | job)

    def files(self) -> None:
        """Time whole patients, and what starts from cold: a slice to its mask, files to batches."""
        try:
            phantom, exported = self._phantom(), self._export({"network": "lgg"})
        except WorkerError as error:
            self.records.append({"section": "volume", "title": "phantom", "kind": "ours", "error": str(error)})
            return
        say("a patient's files to masks")
        job = {"section": "volume", "work": "volume", "patient": phantom["patient"], "amount": phantom["slices"]}
        job |= exported
        wanted = [c for c in contenders.NETWORKS if "volume" in c.works] + [contenders.PLAIN_LOOP]
        self.row([(contender, job) for contender in wanted], self.settings.rounds, self.settings.seconds)
        self.rest()
        self._cold_slice(next(Path(phantom["patient"]).glob("*_10.tif"), None) or _first_slice(phantom["patient"]))
        self._cold_batches(phantom)

    def _cold_slice(self, image: Path) -> None:
        commands = {}
        for entry in contenders.COLD_SLICE:
            mask, weights = self._scratch / f"{entry.script}.png", self._scratch / f"{entry.script}.weights.h5"
            if entry.script == "brainseg":
                start = "from brainseg_keras.cli import main; main()"
                # A folder of its own each time would be fairer to no one: masks are replaced.
                commands[entry.title] = ["-c", start, "predict", str(image), "-o", str(self._scratch / "masks")]
                continue
            commands[entry.title] = [str(COLD), "slice", entry.script, str(weights), str(image), str(mask)]
            with suppress(WorkerError):
                self._command(entry, [str(COLD), "weights", entry.script, str(weights)])
        self._cold("slice", contenders.COLD_SLICE, commands, lambda whole, printed: {"seconds": whole})

    def _cold_batches(self, phantom: Record) -> None:
        commands = {
            entry.title: [str(COLD), "batches", entry.script, phantom["root"], ",".join(phantom["training"])]
            for entry in contenders.COLD_BATCH
        }
        self._cold(
            "batches",
            contenders.COLD_BATCH,
            commands,
            lambda whole, printed: {"seconds": float(printed.split()[-1]), "whole": whole},
        )

    def _cold(self, section: str, entries: tuple[Cold, ...], commands: dict, read: Callable) -> None:
        say(f"cold: {section}")
        records = [{"section": section, "title": e.title, "kind": e.kind, "seconds": [], "whole": []} for e in entries]
        for _ in range(self.settings.rounds):
            for entry, record in zip(entries, records, strict=True):
                if "error" in record:
                    continue
                try:
                    for name, value in read(*self._command(entry, commands[entry.title])).items():
                        record[name].append(value)
                except WorkerError as error:
                    record["error"], record["seconds"] = str(error), []
                    say(f"  {entry.title}: {error}")
        self.records += records

    def _command(self, entry: Cold, arguments: list[str]) -> tuple[float, str]:
        """Run a command of an environment; give its seconds and what it printed."""
        command = [str(self.environment(entry.environment).python), *arguments]
        variables = os.environ | self._variables(entry.environment, entry.variables) | {"STARTED": str(time.time())}
        start = time.perf_counter()
        done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=self._scratch, timeout=600)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise WorkerError((done.stderr.strip().splitlines() or ["no message"])[-1][:300])
        return seconds, done.stdout

    def memory(self) -> None:
        """Take the peak of a fresh process for each contender, at the largest batch."""
        settings = self.settings
        for work in ("train", "infer"):
            for contender in contenders.NETWORKS:
                # Compiling takes minutes, so that compiled networks are looked at in training alone.
                if work not in contender.works or (work == "infer" and contender.job.get("compiled")):
                    continue
                network = "attention_unet" if "attention_unet" in contender.networks else "unet"
                record = {"section": "memory", "title": contender.title, "kind": contender.kind}
                record |= {"work": work, "network": network}
                job = {"size": settings.size, "batch": max(settings.batches), "width": settings.width}
                job |= contender.job | {"precision": "float32", "network": network, "work": work}
                try:
                    if contender.options.get("engine") in ("onnx", "openvino"):
                        job |= self._export(job)
                    worker = self.worker(contender)
                    worker.ask({"do": "prepare", "folder": str(self._scratch), "warm_up": 0} | job)
                    record |= worker.ask({"do": "peak"})
                except WorkerError as error:
                    record["error"] = str(error)
                say(f"  memory, {contender.title}: {record.get('megabytes') or record['error']}")
                self.records.append(record)
                self.rest()


def _one_format_a_time(entries: list[tuple[Contender, Record]]) -> list[list[tuple[Contender, Record]]]:
    """Part what one process cannot hold at once: a worker has one network in one number format."""
    formats = list(dict.fromkeys(job["precision"] for _, job in entries))
    return [[entry for entry in entries if entry[1]["precision"] == chosen] for chosen in formats]


def _first_slice(folder: str) -> Path:
    return sorted(path for path in Path(folder).glob("*.tif") if not path.stem.endswith("_mask"))[0]


def say(text: str) -> None:
    """Tell how far the run is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

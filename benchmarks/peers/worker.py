"""What runs in a contender's own environment: takes jobs from standard input, one at a time, and answers in JSON.

Started by benchmarks/peers.py. Loads no framework by itself; the file of its side does.
"""

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

# The folder above instead of this one: no file here may stand in for a package, and none does from the end of the path.
sys.path[0:1] = []
sys.path.append(str(Path(__file__).resolve().parents[1]))

#: Two timings that lie so near each other end the warm-up.
STEADY = 0.05
WARM_UP_SECONDS, WARM_UP_RUNS = 12.0, 10


class Jobs:
    """The jobs of one worker.

    Args:
        side: Module with `prepare(job, options)`, which gives a function from a number of steps to seconds, and facts.
        options: Handed on to it.
    """

    def __init__(self, side, options):
        self._side, self._options = side, options
        self._run, self._step = None, 0.0

    def prepare(self, job):
        """Build what is timed and warm it up; the facts are its FLOPs and the like."""
        self.drop(job)
        start = time.perf_counter()
        self._run, facts = self._side.prepare(job, self._options)
        before, begun = 0.0, time.perf_counter()
        for count in range(WARM_UP_RUNS):
            self._step = self._run(1)
            steady = before and abs(self._step - before) <= STEADY * before
            if (count and steady) or time.perf_counter() - begun > job.get("warm_up", WARM_UP_SECONDS):
                break
            before = self._step
        return facts | {"prepared": round(time.perf_counter() - start, 2)}

    def measure(self, job):
        """Time as many steps as fill the seconds asked for, at least one."""
        steps = max(1, round(job["seconds"] / self._step))
        self._step = self._run(steps) / steps
        return {"seconds": self._step, "steps": steps}

    def drop(self, job):
        """Let go of what was prepared."""
        self._run = None
        if hasattr(self._side, "drop"):
            self._side.drop()
        return {}

    def peak(self, job):
        """Give the largest memory that the process ever held, in MB."""
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return {"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}

    def call(self, job):
        """Call a function of the side that is no timing."""
        return getattr(self._side, job["function"])(job, self._options)


def main():
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    # What libraries print must not stand between the answers.
    os.dup2(2, 1)
    name, options = sys.argv[1], json.loads(sys.argv[2])
    if "core" in options:
        # Before anything counts the cores.
        os.sched_setaffinity(0, {options["core"]})
    jobs = None
    for line in sys.stdin:
        job = json.loads(line)
        try:
            jobs = jobs or Jobs(importlib.import_module(f"peers.{name}_side"), options)
            answer = getattr(jobs, job["do"])(job)
        except Exception as error:  # whatever a contender raises is a row of the table
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

"""The command line in a process of its own."""

import subprocess
import sys


def brainseg(*arguments, cwd):
    command = [sys.executable, "-c", "from brainseg_keras.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)

"""The table of architectures as data: what `complexity.summarize()` counts, without building the networks."""

import json
from importlib import resources
from typing import Any

#: `python -m brainseg_keras.models.complexity` writes it.
FILE = "architectures.json"


def read_table() -> list[dict[str, Any]]:
    """Read what each registered architecture is and costs, as counted when the package was made.

    Returns:
        Rows as `summarize` in models/complexity.py gives them.

    Example:
        >>> read_table()[0]["name"]
        'unet'
    """
    file = resources.files("brainseg_keras") / "models" / FILE
    return json.loads(file.read_text(encoding="utf-8"))

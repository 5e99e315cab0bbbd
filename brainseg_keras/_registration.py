"""Registers the losses and metrics as soon as Keras is there, so that `load_model` finds them by name.

Keras looks a saved class up among the registered ones and, for packages other than its own, imports nothing: after
`import brainseg_keras` alone it would refuse the file. Importing the classes at once would make every
`brainseg --help` load Keras. So they wait for whoever imports Keras, before or after this package.
"""

import sys
from collections.abc import Callable
from typing import Any


class _WaitForKeras:
    """An import finder that finds nothing of its own: it adds `register` to the end of Keras' own import."""

    def __init__(self, register):
        self._register = register

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "keras":
            return None
        # It stays on the list until Keras really runs: TensorFlow asks for the spec without importing.
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._register()

        spec.loader.exec_module = exec_module
        return spec


def register_with_keras(load: Callable[[], Any]) -> None:
    """Register now if Keras is loaded, else when it is.

    Args:
        load: Imports the classes, which is what registers them.
    """
    if "keras" in sys.modules:
        load()
    else:
        sys.meta_path.insert(0, _WaitForKeras(load))

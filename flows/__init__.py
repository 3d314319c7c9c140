"""The flows: a recipe to a registered version, told as the sequence of its stages.

The Python interface is `from flows import Recipe, compress`; see `compress`.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.in_python import compress as compress
    from flows.recipe import Recipe as Recipe
    from flows.report import Compression as Compression

__all__ = ["Compression", "Recipe", "compress"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, now that it is.

    Importing `tasks` chooses Keras 2 and the processor for this process, in its environment. A program that only asks
    for a compression, which runs in a process of its own, keeps the Keras and the GPU that it has.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    before = dict(os.environ)
    from flows import in_python

    for changed in [key for key, value in os.environ.items() if before.get(key) != value]:
        if changed in before:
            os.environ[changed] = before[changed]
        else:
            del os.environ[changed]
    return getattr(in_python, name)

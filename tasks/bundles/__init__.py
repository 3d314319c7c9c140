"""One file a server: `lay_out` writes what the server takes as it is, `trial` compares its answers with those recorded.

A `trial` runs the server where it can be had as a Python package; what cannot be run here is checked as far as its
files can be, and the result says so.
"""

from types import ModuleType

from tasks.bundles import docker, edge, kserve, tfserving, triton
from tasks.bundles.contents import ServerName

BUNDLES: dict[ServerName, ModuleType] = {
    "tfserving": tfserving,
    "triton": triton,
    "kserve": kserve,
    "docker": docker,
    "edge": edge,
}

"""What workers import: the flows, at work in the folder where a person typed `slimline up`.

Prefect imports a flow with the working folder first in the search path, where a `tasks.py` of the person's own would
take the place of ours. So its processes begin in the folder of the code, and go where the person is as soon as all is
imported. Without `SLIMLINE_FOLDER`, as in deployments/docker, they stay there.
"""

import os

from flows.compression import compress, compress_recipe
from flows.deploy import deploy
from flows.monitor import monitor
from flows.promote import promote, rollback
from flows.search import search_recipe

__all__ = ["compress", "compress_recipe", "deploy", "monitor", "promote", "rollback", "search_recipe"]

if folder := os.environ.get("SLIMLINE_FOLDER"):
    os.chdir(folder)

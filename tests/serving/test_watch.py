"""When a version that could not be served is tried again."""

import subprocess
import sys

# A process of its own: kserve's messages and tritonclient's have the same names, and no process takes both.
AGAIN = """
import math, time
from tasks.contract.errors import FileDifference, StoreError, VersionDamaged
from tasks.serving.watch import _after

failed, pauses = None, []
for _ in range(12):
    failed = _after(StoreError("away"), 7, failed, seconds=1)
    pauses.append(round(failed.again - time.monotonic()))
assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600], pauses
damaged = VersionDamaged("models:/tiny/7", [FileDifference("model.onnx", "a", "b")])
for error in (damaged, ValueError("no model")):
    assert _after(error, 7, failed, seconds=1).again == math.inf
"""


def test_what_does_not_arrive_is_tried_again_ever_later_and_what_is_no_good_never():
    done = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]

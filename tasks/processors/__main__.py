"""`python -m tasks.processors`: make the ARM64 system if it is not there, and say which processors can be asked."""

import sys

from tasks.contract.errors import ProcessorMissing
from tasks.processors import NOT_EMULATED, PROCESSORS, arm64, ask, emulator_version


def main() -> int:
    """Print a line for each processor; returns 1 if one cannot be asked."""
    try:
        arm64.make()
    except ProcessorMissing as error:
        print(f"slimline: {error}", file=sys.stderr)
    left_out = 0
    for name, processor in PROCESSORS.items():
        try:
            answers = ask(name, {})
            how = f"{emulator_version(name)} as {processor.model}" if processor.emulator else "as it is"
            print(f"{name:<28} {how}, {answers.seconds:.1f} s to start: {processor.like}")
        except ProcessorMissing as error:
            left_out += 1
            print(f"{name:<28} cannot be asked: {error}")
    print(NOT_EMULATED)
    return int(left_out > 0)


if __name__ == "__main__":
    sys.exit(main())

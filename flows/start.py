"""Where the program `slimline` begins. Ctrl-C while it is read in, for a third of a second, ends it without a word."""

import os
import signal


def main() -> int:
    """Run a command and give its exit code, as `flows.cli.main`; 130 where Ctrl-C came before there was one."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, and stays so
    if heeded:
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    from flows import cli

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()

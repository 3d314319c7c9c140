"""A server in a process of its own that lasts no longer than this one, however this one ends."""

# It watches standard input: a pipe closes even after `kill -9`. The server leads a session, and its group goes with it.
PROGRAM = """
import os, runpy, signal, sys, threading
def watch():
    while os.read(0, 1 << 16):  # below Python's own buffer, whose lock a thread would take along when this ends
        pass
    os.killpg(os.getpid(), signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
sys.argv = {argv!r}
runpy.run_module({module!r}, run_name="__main__")
"""


def words(module: str, *arguments: str) -> list[str]:
    """What follows `python`: it runs a module until its standard input ends.

    Start it with `stdin=PIPE`, and with `start_new_session=True`: a group of its own, which Ctrl-C at the terminal does
    not reach either.
    """
    return ["-c", PROGRAM.format(module=module, argv=[module, *arguments])]

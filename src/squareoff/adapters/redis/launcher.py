"""Run as a script: tie this process to its supervisor, then become the Redis server.

A fresh interpreter does this instead of `preexec_fn`, which runs Python between fork and exec, where a lock
held by any other thread of the parent never opens again. Nothing here may import squareoff: it runs without
site-packages, to be quick.

    launcher.py <supervisor pid> <lifeline fd, or -1: the kernel does it> <lock fd> <server> <args...>
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    supervisor, lifeline, lock = (int(number) for number in sys.argv[1:4])
    command = sys.argv[4:]
    # A mask inherited from the supervisor would hold the SIGTERM back for ever.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if lifeline < 0:
        _ask_the_kernel(supervisor)
    else:
        _fork_a_watcher(lifeline, lock)
    os.execv(command[0], command)  # with the lock open, so that it is held for as long as the server lives


def _ask_the_kernel(supervisor: int) -> None:
    """SIGTERM to this process when the thread that started it ends. Survives exec, not fork."""
    import ctypes

    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        sys.exit("launcher: this kernel refused PR_SET_PDEATHSIG, so the server could outlive squareoff")
    if os.getppid() != supervisor:  # it died before the kernel knew whom to signal
        sys.exit("launcher: squareoff ended before its Redis server had started")


def _fork_a_watcher(lifeline: int, lock: int) -> None:
    """The watcher is the server's child, so `getppid` tells whether that lives: no guess about a pid."""
    server = os.getpid()
    if os.fork():
        os.close(lifeline)
        return
    os.close(lock)
    os.read(lifeline, 1)  # nobody ever writes: this returns when the supervisor's end closes
    if os.getppid() == server:
        os.kill(server, signal.SIGTERM)
    os._exit(0)


if __name__ == "__main__":
    main()

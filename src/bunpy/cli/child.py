"""``python -m bunpy.cli.child``: what ``--reload`` starts; the command, on sockets that its parent holds."""

from __future__ import annotations

import os
import signal
import sys
import threading

from bunpy.cli.command import main

#: Where a process finds the sockets that it is given (sd_listen_fds(3)).
_FIRST = 3


def run(life: str, descriptors: str, arguments: list[str]) -> int:
    """Run the command with ``arguments``, among them --host=systemd for the listening sockets ``descriptors`` ("4,5").

    Once ``life``, the reading end of a pipe, has come to its end, the parent is gone, and this process drains as well.
    The SIGINT of a terminal is for the parent, which then sends SIGTERM: that would be the second signal otherwise.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    threading.Thread(target=_follow, args=(int(life),), daemon=True).start()
    numbers = sorted(map(int, descriptors.split(",")))
    for place, number in enumerate(numbers, _FIRST):
        if number != place:  # it is above, and so are those that are still to be moved
            os.dup2(number, place)
            os.close(number)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)))
    return main(arguments)


def _follow(pipe: int) -> None:
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2], sys.argv[3:]))

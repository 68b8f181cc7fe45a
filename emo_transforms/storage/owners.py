"""Whose leftovers are whose: unfinished things are named after the machine and process that make them."""

from __future__ import annotations

import os
import socket
import time

import psutil

_CLOCKS_DIFFER = 60.0
"""Seconds by which the clocks of a file server and of this machine may differ."""


def host_name() -> str:
    """This machine's name as it can stand in a file name."""
    return socket.gethostname().replace("/", "_")


def owner_mark() -> str:
    """``HOST-PID`` of this process."""
    return f"{host_name()}-{os.getpid()}"


def is_abandoned(mark: str, made: float, stale_after: float) -> bool:
    """Whether nobody works on a thing any more.

    Process ids come again, in containers with every start: who began after a thing was made didn't make it.

    Args:
        mark: see :func:`owner_mark`.
        made: when the thing was made or last changed, in seconds since the epoch.
        stale_after: seconds after which things of other machines count as abandoned.
    """
    host, _, pid = mark.rpartition("-")
    if host != host_name() or not pid.isdigit():
        return time.time() - made > stale_after
    try:
        return psutil.Process(int(pid)).create_time() > made + _CLOCKS_DIFFER
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return time.time() - made > stale_after

"""A network namespace without a name, which lives as long as this process holds it open.

A name would need a mount that other processes see, which an agent in a container does not have, and it would outlive an
agent that was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Mapping
from pathlib import Path

CLONE_NEWNET = 0x40000000
"""linux/sched.h"""
SYSCTLS: Mapping[str, str] = {
    "ip_forward": "1",
    # What comes in goes out by the same interface, which would tell the machine to send it there directly.
    "conf/all/send_redirects": "0",
    "conf/default/send_redirects": "0",
}


class Namespace:
    """A new network namespace that forwards IPv4. Raises: OSError if this process may not make one."""

    def __init__(self) -> None:
        made: list[int | OSError] = []
        # A thread of its own, which ends: no other thread ever changes its namespace.
        thread = threading.Thread(target=_make, args=(made,), name="hairpin-namespace")
        thread.start()
        thread.join()
        if not made:
            raise OSError("the namespace could not be made")
        if isinstance(made[0], OSError):
            raise made[0]
        self._descriptor = made[0]

    @property
    def path(self) -> str:
        """A path that names the namespace to commands."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Let the namespace go; the kernel removes it, and every interface in it."""
        os.close(self._descriptor)


def _make(made: list[int | OSError]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as stack:
        try:
            if libc.unshare(CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"a network namespace cannot be made: {os.strerror(number)}")  # noqa: TRY301
            descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            for name, value in SYSCTLS.items():
                (Path("/proc/sys/net/ipv4") / name).write_text(value, encoding="ascii")
        except OSError as error:
            made.append(error)
            return
        stack.pop_all()
        made.append(descriptor)

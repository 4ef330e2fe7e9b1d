"""Wakes the supervisor the moment a driver ends, instead of at the next poll."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

__all__ = ["ExitWatch"]


class ExitWatch:
    """One thread that waits on a pidfd per driver. It only ever says "look": nothing is decided by it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._watched: dict[int, str] = {}  # pidfd to nonce
        self._poll = select.epoll()
        self._bell = os.eventfd(0)
        self._poll.register(self._bell, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="exits", daemon=True)
        self._thread.start()

    def watch(self, pid: int, nonce: str) -> None:
        """Wake when this process ends; asked again for the same one, nothing changes."""
        with self._lock:
            if nonce in self._watched.values():
                return
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                self._wake()
                return
            self._watched[handle] = nonce
            self._poll.register(handle, select.EPOLLIN)

    def close(self) -> None:
        os.eventfd_write(self._bell, 1)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            for handle, _ in self._poll.poll():
                if handle == self._bell:
                    self._release()
                    return
                self._ended(handle)
            self._wake()

    def _ended(self, handle: int) -> None:
        with self._lock:
            self._poll.unregister(handle)
            del self._watched[handle]
            os.close(handle)

    def _release(self) -> None:
        with self._lock:
            for handle in [*self._watched, self._bell]:
                os.close(handle)
            self._watched.clear()
            self._poll.close()

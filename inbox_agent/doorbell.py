"""The doorbell: directory events that make the next look come sooner. A hint, never the truth.

watchdog is touched here and nowhere else: one of its emitters per folder, without the dispatcher of an `Observer`:
all that an event is good for is to ring. An emitter that went deaf is found by asking its thread and built anew;
whatever fails, the poll goes on and nothing but speed is lost.
"""

import logging
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from watchdog.events import FileCreatedEvent, FileMovedEvent
from watchdog.observers.api import EventEmitter, ObservedWatch

if sys.platform == "win32":
    from watchdog.observers.read_directory_changes import WindowsApiEmitter as Emitter
elif sys.platform == "linux":
    from watchdog.observers.inotify import InotifyEmitter as Emitter
else:
    from watchdog.observers.polling import PollingEmitter as Emitter

log = logging.getLogger(__name__)

#: On Windows an emitter hands events over only after this much silence; on Linux it does not matter.
EMITTER_TIMEOUT_S = 0.05
#: Records are moved into a watched folder. Linux tells that as "created", Windows as "created" or "moved".
_RINGING = [FileCreatedEvent, FileMovedEvent]


class _Chime:
    """What an emitter takes for its event queue: whatever is put in, rings."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def put(self, _event: object) -> None:
        self._ring()


class Doorbell:
    """Watches one folder per key and calls `ring(key)` from threads of its own when something arrives there."""

    def __init__(self, folders: Mapping[str, Path], ring: Callable[[str], None]) -> None:
        self._folders = dict(folders)
        self._ring = ring
        self._emitters: dict[str, EventEmitter] = {}

    @property
    def deaf(self) -> frozenset[str]:
        """The keys whose folder is not watched at the moment; they must be polled quickly."""
        return frozenset(key for key in self._folders if not self._hears(key))

    def supervise(self, reachable: Collection[str] | None = None) -> None:
        """Starts what does not run. Call it often: it costs next to nothing when all is well, and it never raises.

        Only folders of `reachable` keys are touched (all, if None): asking for an unreachable one may hang.
        """
        for key in self._folders:
            if self._hears(key) or (reachable is not None and key not in reachable):
                continue
            if self._emitters.pop(key, None) is not None:
                log.warning("the watch of %s went deaf and is built anew", self._folders[key])
            self._watch(key)

    def close(self) -> None:
        """Stops watching; rings no more after it returns."""
        emitters, self._emitters = self._emitters, {}
        for emitter in emitters.values():
            emitter.stop()
        for emitter in emitters.values():
            emitter.join(timeout=5)

    def _hears(self, key: str) -> bool:
        emitter = self._emitters.get(key)
        return emitter is not None and emitter.is_alive()

    def _watch(self, key: str) -> None:
        folder = self._folders[key]
        if not folder.is_dir():
            return
        chime: Any = _Chime(lambda: self._ring(key))
        watch = ObservedWatch(str(folder), recursive=False, event_filter=_RINGING)
        emitter = Emitter(chime, watch, timeout=EMITTER_TIMEOUT_S, event_filter=_RINGING)
        emitter.daemon = True
        try:
            emitter.start()
        except (OSError, RuntimeError) as error:  # out of inotify watches, out of threads
            log.warning("%s is not watched, polling instead: %s", folder, error)
            return
        self._emitters[key] = emitter
        # What arrived between the last look and this watch made no sound.
        self._ring(key)


class Bell:
    """A doorbell button with a memory: `wait` returns at once if it was pressed since the last wait."""

    def __init__(self) -> None:
        self._pressed = threading.Event()

    def press(self, _key: str = "") -> None:
        """Wakes the waiter; any thread may press."""
        self._pressed.set()

    def wait(self, timeout_s: float) -> bool:
        """Waits until pressed or until the time is over; True if it was pressed."""
        pressed = self._pressed.wait(timeout_s)
        self._pressed.clear()
        return pressed

"""The doorbell: directory events that make the next look come sooner. A hint, never the truth.

watchdog is touched here and nowhere else. An observer that went deaf is found by asking its threads and built anew;
whatever fails, the poll goes on and nothing but speed is lost.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from watchdog.events import FileCreatedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

#: On Windows an emitter hands events over only after this much silence; on Linux it does not matter.
OBSERVER_TIMEOUT_S = 0.05
#: Records are moved into a watched folder. Linux tells that as "created", Windows as "created" or "moved".
_RINGING = [FileCreatedEvent, FileMovedEvent]


class _Ringer(FileSystemEventHandler):
    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._ring()


class Doorbell:
    """Watches one folder per key and calls `ring(key)` from a thread of its own when something arrives there."""

    def __init__(self, folders: Mapping[str, Path], ring: Callable[[str], None]) -> None:
        self._folders = dict(folders)
        self._ring = ring
        self._observer: BaseObserver | None = None
        self._deaf: set[str] = set(folders)

    @property
    def deaf(self) -> frozenset[str]:
        """The keys whose folder is not watched at the moment; they must be polled quickly."""
        return frozenset(self._deaf)

    def supervise(self, reachable: Collection[str] | None = None) -> None:
        """Starts what does not run. Call it often: it costs nothing when all is well, and it never raises.

        Only folders of `reachable` keys are touched (all, if None): asking for an unreachable one may hang.
        """
        if self._observer is not None and not self._is_well(self._observer):
            log.warning("the directory watch went deaf and is built anew")
            self.close()
        if self._observer is None:
            self._observer = self._start()
        if self._observer is not None:
            for key in sorted(self._deaf if reachable is None else self._deaf & set(reachable)):
                self._watch(self._observer, key)

    def close(self) -> None:
        """Stops watching; rings no more after it returns."""
        observer, self._observer = self._observer, None
        self._deaf = set(self._folders)
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join(timeout=5)

    def _start(self) -> BaseObserver | None:
        observer = Observer(timeout=OBSERVER_TIMEOUT_S)
        observer.daemon = True
        try:
            observer.start()
        except (OSError, RuntimeError) as error:  # out of inotify instances, out of threads
            log.warning("no directory watch, polling instead: %s", error)
            return None
        return observer

    def _watch(self, observer: BaseObserver, key: str) -> None:
        folder = self._folders[key]
        if not folder.is_dir():
            return
        try:
            observer.schedule(_Ringer(lambda: self._ring(key)), str(folder), recursive=False, event_filter=_RINGING)
        except (OSError, RuntimeError) as error:
            log.warning("%s is not watched, polling instead: %s", folder, error)
            return
        self._deaf.discard(key)
        # What arrived between the last look and this watch made no sound.
        self._ring(key)

    def _is_well(self, observer: BaseObserver) -> bool:
        emitters = observer.emitters
        return (
            observer.is_alive()
            and len(emitters) == len(self._folders) - len(self._deaf)
            and all(emitter.is_alive() for emitter in emitters)
        )


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

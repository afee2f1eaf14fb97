"""Change notifications for local folders: file events that trigger the next scan earlier. Polling works without them.

Owns: the use of watchdog. Its emitters run without `Observer`: an event is only a wake-up, and the dispatcher would add
two threads and two queues. A watch that has failed is detected by polling `is_watching`, and renewed.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from watchdog.events import FileCreatedEvent, FileMovedEvent, FileSystemEvent
from watchdog.observers.api import EventEmitter, ObservedWatch

if sys.platform == "win32":
    from watchdog.observers.read_directory_changes import WindowsApiEmitter as Emitter
else:
    from watchdog.observers.polling import PollingEmitter as Emitter
if sys.platform == "linux":
    from watchdog.observers.inotify_c import (
        CallbackId,
        InotifyConstants,
        InotifyEvent,
        InotifyFD,
        Mask,
        WatchDescriptor,
    )

log = logging.getLogger(__name__)

#: An emitter on Windows delivers events only after this much time without a new one.
EMITTER_TIMEOUT_S = 0.05
#: Called with the name of a file that arrived; None if events were lost.
OnArrival = Callable[[str | None], None]
#: Raised by watchdog, the system or a missing share when a folder cannot be watched.
_WATCH_ERRORS = (OSError, RuntimeError)


class WatchBackend(Protocol):
    """Watches folders from its own threads."""

    def is_watching(self, key: str) -> bool:
        """Whether the folder of this key is being watched."""

    def watch(self, key: str, folder: Path, arrived: OnArrival) -> None:
        """Starts to watch a folder. Raises OSError or RuntimeError: out of watches or threads, folder missing."""

    def close(self) -> None:
        """Stops watching; `arrived` is not called after it returns."""


class FolderWatcher:
    """Watches one folder per key and calls `notify(key)` when a name with one of `suffixes` arrives there.

    Names without such a suffix are ignored: payloads and claims arrive with every evaluation.
    Threads: `notify` is called from the watcher's threads.
    """

    def __init__(
        self, folders: Mapping[str, Path], notify: Callable[[str], None], *, suffixes: tuple[str, ...]
    ) -> None:
        self._folders = dict(folders)
        self._notify = notify
        self._suffixes = suffixes
        self._backend: WatchBackend = make_backend()

    @property
    def unwatched(self) -> frozenset[str]:
        """The keys of folders that are not watched at the moment; they must be polled quickly."""
        return frozenset(key for key in self._folders if not self._backend.is_watching(key))

    def rearm(self, reachable: Collection[str] | None = None) -> None:
        """Watches the folders that are not watched. Cheap if all are, so call it often; never raises.

        Only folders of `reachable` keys are accessed (all, if None): access to an unreachable one may hang.
        """
        for key, folder in self._folders.items():
            if not self._backend.is_watching(key) and (reachable is None or key in reachable) and os.path.isdir(folder):
                self._watch(key, folder)

    def close(self) -> None:
        """Stops watching; `notify` is not called after it returns."""
        self._backend.close()

    def _watch(self, key: str, folder: Path) -> None:
        def arrived(name: str | None) -> None:
            if name is None or name.endswith(self._suffixes):
                self._notify(key)

        try:
            self._backend.watch(key, folder, arrived)
        except _WATCH_ERRORS as error:
            log.warning("%s is not watched, polling instead: %s", folder, error)
            return
        # There was no event for files that arrived between the last scan and this watch.
        self._notify(key)


class EmitterBackend:
    """One of watchdog's emitters, and so one thread, per folder: Windows and other systems."""

    def __init__(self) -> None:
        self._emitters: dict[str, EventEmitter] = {}

    def is_watching(self, key: str) -> bool:
        """True while the emitter's thread lives: it ends after an error without reporting it."""
        emitter = self._emitters.get(key)
        return emitter is not None and emitter.is_alive()

    def watch(self, key: str, folder: Path, arrived: OnArrival) -> None:
        """Starts an emitter. Raises OSError or RuntimeError."""
        events: list[type[FileSystemEvent]] = [FileCreatedEvent, FileMovedEvent]  # a move into the folder is either
        watch = ObservedWatch(str(folder), recursive=False, event_filter=events)
        emitter = Emitter(cast("Any", _EventSink(arrived)), watch, timeout=EMITTER_TIMEOUT_S, event_filter=events)
        emitter.daemon = True
        emitter.start()
        self._emitters[key] = emitter

    def close(self) -> None:
        """Ends the threads."""
        emitters, self._emitters = self._emitters, {}
        for emitter in emitters.values():
            emitter.stop()
        for emitter in emitters.values():
            emitter.join(timeout=5)


class _EventSink:
    """Stands in for an emitter's event queue: passes each event's name on and drops the rest."""

    def __init__(self, arrived: OnArrival) -> None:
        self._arrived = arrived

    def put(self, item: tuple[FileSystemEvent, ObservedWatch]) -> None:
        event, _watch = item
        self._arrived(os.fsdecode(event.dest_path or event.src_path))


if sys.platform == "linux":

    class InotifyBackend:
        """watchdog's reader of inotify, one thread for all folders."""

        _WATCHED = Mask(
            InotifyConstants.IN_CREATE
            | InotifyConstants.IN_MOVED_TO
            | InotifyConstants.IN_MOVE_SELF
            | InotifyConstants.IN_ONLYDIR
        )

        def __init__(self) -> None:
            self._reader: InotifyFD | None = None
            self._watching: set[str] = set()

        def is_watching(self, key: str) -> bool:
            """True while the reader's thread lives and the folder was not moved or removed."""
            return key in self._watching and self._reader is not None and self._reader.is_alive()

        def watch(self, key: str, folder: Path, arrived: OnArrival) -> None:
            """Adds a watch. Raises OSError or RuntimeError."""
            if self._reader is None or not self._reader.is_alive():
                self.close()
                self._reader = InotifyFD()
                self._reader.daemon = True
                self._reader.start()
            watch = _InotifyWatch(self._reader, arrived, lost=lambda: self._watching.discard(key))
            self._watching.add(key)
            descriptor = -1
            try:
                descriptor = self._reader.add_callback(os.fsencode(folder), self._WATCHED, watch, watch.id)
            finally:
                if descriptor == -1:
                    self._watching.discard(key)
            if descriptor == -1:  # the reader does not report a folder that it may not watch
                raise PermissionError(f"{folder}: permission denied")

        def close(self) -> None:
            """Ends the thread."""
            reader, self._reader = self._reader, None
            self._watching.clear()
            if reader is not None:
                reader.stop()
                reader.join(timeout=5)

    class _InotifyWatch:
        """The callbacks of inotify's reader for one folder."""

        def __init__(self, reader: InotifyFD, arrived: OnArrival, lost: Callable[[], None]) -> None:
            self._reader, self._arrived, self._lost = reader, arrived, lost

        @property
        def id(self) -> CallbackId:
            return CallbackId(id(self))

        def on_event(self, event: InotifyEvent) -> None:
            if event.is_move_self:  # the path may lead to another folder now
                self._lost()
                self._reader.remove_callbacks([(event.wd, self.id)])
            else:
                self._arrived(os.fsdecode(event.name))

        def on_watch_deleted(self, _wd: WatchDescriptor) -> None:
            self._lost()

        def on_queue_overflow(self) -> None:
            self._arrived(None)

    make_backend: Callable[[], WatchBackend] = InotifyBackend
else:
    make_backend = EmitterBackend


class Wakeup:
    """A wake-up event: `wait` returns at once if it was set since the last wait, and clears it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self, _key: str = "") -> None:
        """Wakes the waiter; any thread may call."""
        self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Waits until it is set or the timeout has passed; True if it was set."""
        was_set = self._event.wait(timeout_s)
        self._event.clear()
        return was_set

"""Change notifications for local folders: file events that trigger the next scan earlier. Polling works without them.

Owns: the use of watchdog. Its emitters run without `Observer`: an event is only a wake-up, and the dispatcher would add
two threads and two queues. A watch that has failed is detected by polling `is_watching`, and renewed; what keeps a
folder from being watched is logged once.
"""

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
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
#: A folder that cannot be watched is tried again after the first pause, which doubles up to the longest one.
RETRY_MIN_S, RETRY_MAX_S = 1.0, 30.0
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

    def unwatch(self, key: str) -> None:
        """Stops watching one folder, if it is watched."""

    def close(self) -> None:
        """Stops watching; `arrived` is not called after it returns."""


class FolderWatcher:
    """Watches one folder per key and calls `notify(key)` when a name with one of `suffixes` arrives there.

    Names without such a suffix are ignored: payloads and claims arrive with every evaluation. A folder that cannot be
    watched is tried again, less and less often; each reason is logged once until it no longer applies.
    Threads: `notify` is called from the watcher's threads.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        notify: Callable[[str], None],
        *,
        suffixes: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = dict(folders)
        self._notify = notify
        self._suffixes = suffixes
        self._clock = clock
        self._backend: WatchBackend = make_backend()
        self._failures: dict[str, _Failure] = {}
        self._notified: set[str] = set()  #: keys of folders where anything arrived since they are watched

    def add(self, key: str, folder: Path) -> None:
        """Adds a folder; the next `rearm` watches it."""
        self._folders[key] = folder

    def remove(self, key: str) -> None:
        """Stops watching a folder, and forgets it."""
        del self._folders[key]
        self._failures.pop(key, None)
        self._notified.discard(key)
        self._backend.unwatch(key)

    @property
    def unwatched(self) -> frozenset[str]:
        """The keys of folders that are not watched at the moment; they must be polled quickly."""
        return frozenset(key for key in self._folders if not self._backend.is_watching(key))

    def has_notified(self, key: str) -> bool:
        """Whether files were seen to arrive in this folder since it is watched: on some media no change is notified."""
        return key in self._notified and self._backend.is_watching(key)

    def rearm(self, reachable: Collection[str] | None = None) -> None:
        """Watches the folders that are not watched. Cheap if all are, so call it often; never raises.

        Only folders of `reachable` keys are accessed (all, if None): access to an unreachable one may hang.
        """
        for key, folder in self._folders.items():
            if not self._backend.is_watching(key) and (reachable is None or key in reachable) and self._is_due(key):
                self._watch(key, folder)

    def close(self) -> None:
        """Stops watching; `notify` is not called after it returns."""
        self._backend.close()

    def _is_due(self, key: str) -> bool:
        failure = self._failures.get(key)
        return (failure is None or self._clock() >= failure.retry_at) and os.path.isdir(self._folders[key])

    def _watch(self, key: str, folder: Path) -> None:
        def arrived(name: str | None) -> None:
            if name is not None:
                self._notified.add(key)
            if name is None or name.endswith(self._suffixes):
                self._notify(key)

        self._notified.discard(key)
        try:
            self._backend.watch(key, folder, arrived)
        except _WATCH_ERRORS as error:
            self._note_failure(key, _reason(folder, error))
            return
        self._note_success(key)
        # There was no event for files that arrived between the last scan and this watch.
        self._notify(key)

    def _note_failure(self, key: str, reason: str) -> None:
        before = self._failures.pop(key, None)
        pause_s = min(2 * before.pause_s, RETRY_MAX_S) if before is not None else RETRY_MIN_S
        is_known = any(failure.reason == reason for failure in (before, *self._failures.values()) if failure)
        self._failures[key] = _Failure(reason, pause_s, self._clock() + pause_s)
        if not is_known:
            log.warning("changes are not notified, polling instead: %s", reason)

    def _note_success(self, key: str) -> None:
        before = self._failures.pop(key, None)
        if before is not None and not any(failure.reason == before.reason for failure in self._failures.values()):
            log.warning("changes are notified again, after: %s", before.reason)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a folder could not be watched, and when it is tried again."""

    reason: str
    pause_s: float
    retry_at: float


def _reason(folder: Path, error: Exception) -> str:
    """Why a folder cannot be watched. A limit of the system is the same for all folders, so it names none."""
    code = error.errno if sys.platform == "linux" and isinstance(error, OSError) else None
    if code == errno.ENOSPC:  # Source: inotify_add_watch(2); for EMFILE, inotify_init(2)
        return "this user has no inotify watch left; raise the sysctl fs.inotify.max_user_watches"
    if code == errno.EMFILE and _has_free_descriptors():
        return "this user has no inotify instance left; raise the sysctl fs.inotify.max_user_instances"
    if code == errno.EMFILE:
        return "this process has no file descriptor left; raise the limit (ulimit -n)"
    return f"{folder}: {getattr(error, 'strerror', None) or error}"


def _has_free_descriptors() -> bool:
    """Whether this process can open the three files that a reader of inotify needs."""
    opened: list[int] = []
    try:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        opened += os.pipe()
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True


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

    def unwatch(self, key: str) -> None:
        """Ends the thread of a folder."""
        if (emitter := self._emitters.pop(key, None)) is not None:
            emitter.stop()

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
            self._watches: dict[str, tuple[WatchDescriptor, _InotifyWatch]] = {}

        def is_watching(self, key: str) -> bool:
            """True while the reader's thread lives and the folder was not moved or removed."""
            return key in self._watching and self._reader is not None and self._reader.is_alive()

        def watch(self, key: str, folder: Path, arrived: OnArrival) -> None:
            """Adds a watch. Raises OSError or RuntimeError."""
            if self._reader is None or not self._reader.is_alive():
                self.close()
                if not _has_free_descriptors():  # it would never close the one that it got
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
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
                raise PermissionError(errno.EACCES, "permission denied")
            self._watches[key] = descriptor, watch

        def unwatch(self, key: str) -> None:
            """Removes a watch."""
            known = self._watches.pop(key, None)
            if known is not None and key in self._watching and self._reader is not None:
                self._watching.discard(key)
                self._reader.remove_callbacks([(known[0], known[1].id)])

        def close(self) -> None:
            """Ends the thread."""
            reader, self._reader = self._reader, None
            self._watching.clear()
            self._watches.clear()
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

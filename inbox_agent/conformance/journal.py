"""What happens in a folder of the share, in its order, as the system reports it.

Owns: the use of watchdog by the kit. Polling would miss what lies between two looks.
"""

import os
import sys
from pathlib import Path
from typing import Self

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

#: Whether the system tells a file that is written under its name from one that is only moved or linked there.
SHOWS_WRITES = sys.platform == "linux"


class FolderJournal(FileSystemEventHandler):
    """The events of one folder, without those of its subfolders, from `with` on."""

    def __init__(self, folder: Path) -> None:
        self.entries: list[tuple[str, str]] = []  #: kind of event as watchdog names it, and name
        self._folder, self._observer = folder, Observer()

    def __enter__(self) -> Self:
        self._observer.schedule(self, str(self._folder), recursive=False)
        self._observer.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Appends it."""
        if event.event_type == "moved":
            self.entries.append(("deleted", os.path.basename(os.fsdecode(event.src_path))))
            self.entries.append(("created", os.path.basename(os.fsdecode(event.dest_path))))
        else:
            self.entries.append((event.event_type, os.path.basename(os.fsdecode(event.src_path))))

    def names(self, kind: str) -> list[str]:
        """The names with an event of that kind, in the order of their first one."""
        return list(dict.fromkeys(name for event, name in list(self.entries) if event == kind))

    def written_in_place(self) -> set[str]:
        """The names under which a file was written, where `SHOWS_WRITES`."""
        # "modified" alone may be a change of access rights, "closed" alone a flush.
        return set(self.names("modified")) & set(self.names("closed"))

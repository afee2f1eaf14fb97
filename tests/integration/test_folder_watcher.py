"""The folder watcher with the real watchdog on real folders: which changes notify, and recovery from errors."""

import queue
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.utils import BaseThread

from inbox_agent.protocol.layout import ORDERS
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.system import folder_watcher
from inbox_agent.system.folder_watcher import EmitterBackend, FolderWatcher, Wakeup
from tests.harness.waiting import PATIENCE_S, eventually

posix = pytest.mark.skipif(sys.platform == "win32", reason="a watched folder cannot be removed there")


class WatchedShare:
    """One or more shares on the disk, a folder watcher for their inboxes, and its notifications."""

    def __init__(self, folder: Path, keys: list[str]) -> None:
        self.shares = {key: folder / key for key in keys}
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.bell = FolderWatcher(
            {key: share / "inbox" for key, share in self.shares.items()}, self._heard.put, suffixes=ORDERS
        )

    def mount(self, key: str = "vm-0") -> None:
        """The share appears, with its folders."""
        self.shares[key].mkdir(exist_ok=True)
        LocalFiles(self.shares[key]).make_folders()

    def publish(self, name: str, key: str = "vm-0") -> None:
        LocalFiles(self.shares[key]).publish(f"inbox/{name}", b"{}")

    def hear(self) -> str:
        """The key of the next notification; fails if there is none."""
        return self._heard.get(timeout=PATIENCE_S)

    def unwatched(self) -> frozenset[str]:
        """The keys of unwatched folders after another try to watch them."""
        self.bell.rearm()
        return self.bell.unwatched

    def hears_no_more(self) -> bool:
        """Whether no notification comes for a moment."""
        try:
            self._heard.get(timeout=0.1)
        except queue.Empty:
            return True
        return False


@pytest.fixture(params=["own", "emitters"], autouse=True)
def ears(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs twice: with this system's own backend, and with watchdog's emitters."""
    if request.param == "emitters":
        monkeypatch.setattr(folder_watcher, "make_backend", EmitterBackend)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[WatchedShare]:
    """One share with its folders, watched; its first notification is already taken."""
    door = WatchedShare(tmp_path, ["vm-0"])
    door.mount()
    door.bell.rearm()
    assert door.hear() == "vm-0"
    yield door
    door.bell.close()


@pytest.fixture
def street(tmp_path: Path) -> Iterator[WatchedShare]:
    """Two shares that do not exist yet."""
    street = WatchedShare(tmp_path, ["vm-0", "vm-1"])
    yield street
    street.bell.close()


def listeners() -> list[BaseThread]:
    """watchdog's threads, wherever the folder watcher keeps them."""
    return [thread for thread in threading.enumerate() if isinstance(thread, BaseThread)]


def end(listener: BaseThread) -> None:
    """Ends a thread as an error does, without a notification."""
    listener.stop()
    listener.join(PATIENCE_S)
    assert not listener.is_alive()


def test_published_record_notifies_once(door: WatchedShare) -> None:
    """A record that is staged in tmp/ and moved into the watched folder notifies once."""
    for number in range(1, 4):
        door.publish(f"{number}.host.json")

    assert [door.hear() for _ in range(3)] == ["vm-0"] * 3
    assert door.hears_no_more()


def test_changes_outside_inbox_do_not_notify(door: WatchedShare) -> None:
    """Heartbeats, results and staged files do not notify, and neither do reading and removing."""
    files = LocalFiles(door.shares["vm-0"])
    files.replace("status/agent.json", b"beat")
    files.publish("outbox/x.result.json", b"{}", durable=True)
    files.write("inbox/tmp/staged", b"{}")
    door.publish("1.host.json")
    assert door.hear() == "vm-0"
    files.read("inbox/1.host.json", 100)
    files.remove(["inbox/1.host.json", "inbox/tmp/staged"])

    assert door.hears_no_more()


def test_payloads_and_unknown_names_do_not_notify(door: WatchedShare) -> None:
    """A genome comes with every start signal; only the signal notifies."""
    files = LocalFiles(door.shares["vm-0"])
    files.write("inbox/g0001-0001-t1-a1-000000000000.genome", b"payload")
    files.write("inbox/notes.txt", b"by hand")
    assert door.hears_no_more()

    door.publish("g0001-0001-t1-a1-000000000000.start.json")
    assert door.hear() == "vm-0"


def test_notification_carries_key_of_share(street: WatchedShare) -> None:
    """With two shares, each notification has the key of its share."""
    street.mount("vm-0")
    street.mount("vm-1")
    street.bell.rearm()
    assert {street.hear(), street.hear()} == {"vm-0", "vm-1"}

    street.publish("1.host.json", "vm-1")
    assert street.hear() == "vm-1"
    street.publish("1.host.json", "vm-0")
    assert street.hear() == "vm-0"


def test_missing_folder_is_watched_when_it_appears(street: WatchedShare) -> None:
    """unwatched -> the share is mounted -> one notification at that moment, for earlier files -> others later."""
    street.mount("vm-0")
    street.bell.rearm()
    assert street.hear() == "vm-0"
    assert street.bell.unwatched == {"vm-1"}

    street.mount("vm-1")
    street.publish("1.host.json", "vm-1")
    street.bell.rearm()
    assert street.bell.unwatched == frozenset()
    assert street.hear() == "vm-1"

    street.bell.rearm()
    assert street.hears_no_more()
    street.publish("2.host.json", "vm-1")
    assert street.hear() == "vm-1"


def test_unreachable_folder_is_not_accessed(street: WatchedShare) -> None:
    """Only folders of reachable shares are looked for: access to another one may hang."""
    street.mount("vm-0")
    street.mount("vm-1")

    street.bell.rearm({"vm-1"})
    assert street.bell.unwatched == {"vm-0"}

    street.bell.rearm({"vm-0", "vm-1"})
    assert street.bell.unwatched == frozenset()


def test_rearm_of_working_watcher_changes_nothing(door: WatchedShare) -> None:
    """It may be called at any time: no notification, and the same threads."""
    before = listeners()

    for _ in range(50):
        door.bell.rearm()

    assert listeners() == before
    assert door.hears_no_more()


def test_dead_watcher_thread_is_replaced(door: WatchedShare) -> None:
    """watchdog's reader ends after an error without a notification; the next `rearm` replaces it."""
    [listener] = listeners()
    end(listener)
    door.publish("1.host.json")
    assert door.hears_no_more()

    door.bell.rearm()

    assert door.hear() == "vm-0"  # for changes while it was not watched
    assert door.bell.unwatched == frozenset()
    door.publish("2.host.json")
    assert door.hear() == "vm-0"


@posix
def test_reappearing_folder_is_watched_again(door: WatchedShare) -> None:
    """mounted -> gone -> unwatched -> mounted: one notification when it is back, and more for later files."""
    inbox = door.shares["vm-0"] / "inbox"
    (inbox / "tmp").rmdir()
    inbox.rmdir()
    assert eventually(lambda: door.unwatched() == {"vm-0"})

    door.mount()
    door.bell.rearm()

    assert door.bell.unwatched == frozenset()
    assert door.hear() == "vm-0"
    door.publish("1.host.json")
    assert door.hear() == "vm-0"


@posix
def test_lost_folder_does_not_affect_others(street: WatchedShare) -> None:
    """After one share is lost, the other one notifies as before."""
    street.mount("vm-0")
    street.mount("vm-1")
    street.bell.rearm()
    assert Counter([street.hear(), street.hear()]) == {"vm-0": 1, "vm-1": 1}
    (street.shares["vm-1"] / "inbox").rename(street.shares["vm-1"] / "elsewhere")
    assert eventually(lambda: street.unwatched() == {"vm-1"})

    while not street.hears_no_more():  # the watcher may replace the other watch as well
        pass
    street.publish("1.host.json", "vm-0")
    assert street.hear() == "vm-0"


def test_closed_watcher_does_not_notify(door: WatchedShare) -> None:
    """After `close` no notification comes and no thread is left; closing again is no error."""
    door.bell.close()

    door.publish("1.host.json")

    assert door.hears_no_more()
    assert listeners() == []
    assert door.bell.unwatched == {"vm-0"}
    door.bell.close()


def test_wakeup_set_before_wait_returns_at_once() -> None:
    """If it is set before any wait, the next wait returns at once, and only that one."""
    bell = Wakeup()
    bell.set("vm-0")
    bell.set()

    assert bell.wait(PATIENCE_S)
    assert not bell.wait(0)


def test_wakeup_set_by_other_thread_ends_wait() -> None:
    """Any thread may set it; the wait ends long before its time-out."""
    bell, woken = Wakeup(), threading.Event()

    def wait() -> None:
        if bell.wait(60):
            woken.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    bell.set()

    assert woken.wait(PATIENCE_S)
    waiter.join()


@pytest.mark.skipif(sys.platform != "linux", reason="the queue is the Linux kernel's")
@pytest.mark.parametrize("ears", ["own"], indirect=True)
def test_queue_overflow_notifies(tmp_path: Path) -> None:
    """The reader is blocked -> more events than the kernel's queue holds, none of which notifies -> a notification all
    the same."""
    held, rung = threading.Event(), queue.SimpleQueue[str]()

    def ring(key: str) -> None:
        rung.put(key)
        held.wait(PATIENCE_S)

    bell = FolderWatcher({"vm-0": tmp_path}, ring, suffixes=ORDERS)
    held.set()
    bell.rearm()
    assert rung.get(timeout=PATIENCE_S) == "vm-0"
    held.clear()
    (tmp_path / "1.host.json").touch()
    assert rung.get(timeout=PATIENCE_S) == "vm-0"  # and now the reader is blocked

    for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="utf-8")) + 1):
        file = tmp_path / f"{number % 2}"
        file.touch()
        file.unlink()
    held.set()

    assert rung.get(timeout=PATIENCE_S) == "vm-0"
    bell.close()

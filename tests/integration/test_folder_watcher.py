"""The folder watcher with the real watchdog on real folders: which changes notify, and recovery from errors."""

import contextlib
import os
import queue
import shutil
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
from inbox_agent.system.folder_watcher import RETRY_MAX_S, EmitterBackend, FolderWatcher, Wakeup
from tests.harness.other_user import allow_traversal, as_unprivileged_user
from tests.harness.waiting import PATIENCE_S, eventually

posix = pytest.mark.skipif(sys.platform == "win32", reason="a watched folder cannot be removed there")


class WatchedShare:
    """One or more shares on the disk, a folder watcher for their inboxes, and its notifications."""

    def __init__(self, folder: Path, keys: list[str]) -> None:
        self.now = 0.0
        self.shares = {key: folder / key for key in keys}
        self._keys: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.watcher = FolderWatcher(
            {key: share / "inbox" for key, share in self.shares.items()},
            self._keys.put,
            suffixes=ORDERS,
            clock=lambda: self.now,
        )

    def mount(self, key: str = "vm-0") -> None:
        """The share appears, with its folders."""
        self.shares[key].mkdir(exist_ok=True)
        LocalFiles(self.shares[key]).make_folders()

    def publish(self, name: str, key: str = "vm-0") -> None:
        LocalFiles(self.shares[key]).publish(f"inbox/{name}", b"{}")

    def next_key(self) -> str:
        """The key of the next notification; fails if there is none."""
        return self._keys.get(timeout=PATIENCE_S)

    def unwatched(self) -> frozenset[str]:
        """The keys of unwatched folders after another try to watch them."""
        self.watcher.rearm()
        return self.watcher.unwatched

    def is_quiet(self) -> bool:
        """Whether no notification comes for a moment."""
        try:
            self._keys.get(timeout=0.1)
        except queue.Empty:
            return True
        return False


@pytest.fixture(params=["own", "emitters"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs twice: with this system's own backend, and with watchdog's emitters."""
    if request.param == "emitters":
        monkeypatch.setattr(folder_watcher, "make_backend", EmitterBackend)


@pytest.fixture
def one_share(tmp_path: Path) -> Iterator[WatchedShare]:
    """One share with its folders, watched; its first notification is already taken."""
    one_share = WatchedShare(tmp_path, ["vm-0"])
    one_share.mount()
    one_share.watcher.rearm()
    assert one_share.next_key() == "vm-0"
    yield one_share
    one_share.watcher.close()


@pytest.fixture
def two_shares(tmp_path: Path) -> Iterator[WatchedShare]:
    """Two shares that do not exist yet."""
    two_shares = WatchedShare(tmp_path, ["vm-0", "vm-1"])
    yield two_shares
    two_shares.watcher.close()


def watchdog_threads() -> list[BaseThread]:
    """watchdog's threads, wherever the folder watcher keeps them."""
    return [thread for thread in threading.enumerate() if isinstance(thread, BaseThread)]


def end(thread: BaseThread) -> None:
    """Ends a thread as an error does, without a notification."""
    thread.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_published_record_notifies_once(one_share: WatchedShare) -> None:
    """A record that is staged in tmp/ and moved into the watched folder notifies once."""
    for number in range(1, 4):
        one_share.publish(f"{number}.host.json")

    assert [one_share.next_key() for _ in range(3)] == ["vm-0"] * 3
    assert one_share.is_quiet()


def test_changes_outside_inbox_do_not_notify(one_share: WatchedShare) -> None:
    """Heartbeats, results and staged files do not notify, and neither do reading and removing."""
    files = LocalFiles(one_share.shares["vm-0"])
    files.replace("status/agent.json", b"beat")
    files.publish("outbox/x.result.json", b"{}", durable=True)
    files.write("inbox/tmp/staged", b"{}")
    one_share.publish("1.host.json")
    assert one_share.next_key() == "vm-0"
    files.read("inbox/1.host.json", 100)
    files.remove(["inbox/1.host.json", "inbox/tmp/staged"])

    assert one_share.is_quiet()


def test_payloads_and_unknown_names_do_not_notify(one_share: WatchedShare) -> None:
    """A genome comes with every start signal; only the signal notifies."""
    files = LocalFiles(one_share.shares["vm-0"])
    files.write("inbox/g0001-0001-t1-a1-000000000000.genome", b"payload")
    files.write("inbox/notes.txt", b"by hand")
    assert one_share.is_quiet()

    one_share.publish("g0001-0001-t1-a1-000000000000.start.json")
    assert one_share.next_key() == "vm-0"


def test_notification_carries_key_of_share(two_shares: WatchedShare) -> None:
    """With two shares, each notification has the key of its share."""
    two_shares.mount("vm-0")
    two_shares.mount("vm-1")
    two_shares.watcher.rearm()
    assert {two_shares.next_key(), two_shares.next_key()} == {"vm-0", "vm-1"}

    two_shares.publish("1.host.json", "vm-1")
    assert two_shares.next_key() == "vm-1"
    two_shares.publish("1.host.json", "vm-0")
    assert two_shares.next_key() == "vm-0"


@posix
def test_notifications_have_worked_once_a_file_arrived(one_share: WatchedShare) -> None:
    """A file of any name, in the folder that is watched now."""
    assert not one_share.watcher.has_notified("vm-0")
    one_share.publish("x.genome")
    assert eventually(lambda: one_share.watcher.has_notified("vm-0"))

    shutil.rmtree(one_share.shares["vm-0"])
    assert eventually(lambda: one_share.unwatched() == {"vm-0"})
    assert not one_share.watcher.has_notified("vm-0")
    one_share.mount()
    assert eventually(lambda: not one_share.unwatched())
    assert not one_share.watcher.has_notified("vm-0")


def test_missing_folder_is_watched_when_it_appears(two_shares: WatchedShare) -> None:
    """unwatched -> the share is mounted -> one notification at that moment, for earlier files -> others later."""
    two_shares.mount("vm-0")
    two_shares.watcher.rearm()
    assert two_shares.next_key() == "vm-0"
    assert two_shares.watcher.unwatched == {"vm-1"}

    two_shares.mount("vm-1")
    two_shares.publish("1.host.json", "vm-1")
    two_shares.watcher.rearm()
    assert two_shares.watcher.unwatched == frozenset()
    assert two_shares.next_key() == "vm-1"

    two_shares.watcher.rearm()
    assert two_shares.is_quiet()
    two_shares.publish("2.host.json", "vm-1")
    assert two_shares.next_key() == "vm-1"


def test_unreachable_folder_is_not_accessed(two_shares: WatchedShare) -> None:
    """Only folders of reachable shares are looked for: access to another one may hang."""
    two_shares.mount("vm-0")
    two_shares.mount("vm-1")

    two_shares.watcher.rearm({"vm-1"})
    assert two_shares.watcher.unwatched == {"vm-0"}

    two_shares.watcher.rearm({"vm-0", "vm-1"})
    assert two_shares.watcher.unwatched == frozenset()


def test_rearm_of_working_watcher_changes_nothing(one_share: WatchedShare) -> None:
    """It may be called at any time: no notification, and the same threads."""
    before = watchdog_threads()

    for _ in range(50):
        one_share.watcher.rearm()

    assert watchdog_threads() == before
    assert one_share.is_quiet()


def test_dead_watcher_thread_is_replaced(one_share: WatchedShare) -> None:
    """watchdog's reader ends after an error without a notification; the next `rearm` replaces it."""
    [thread] = watchdog_threads()
    end(thread)
    one_share.publish("1.host.json")
    assert one_share.is_quiet()

    one_share.watcher.rearm()

    assert one_share.next_key() == "vm-0"  # for changes while it was not watched
    assert one_share.watcher.unwatched == frozenset()
    one_share.publish("2.host.json")
    assert one_share.next_key() == "vm-0"


@posix
def test_reappearing_folder_is_watched_again(one_share: WatchedShare) -> None:
    """mounted -> gone -> unwatched -> mounted: one notification when it is back, and more for later files."""
    inbox = one_share.shares["vm-0"] / "inbox"
    (inbox / "tmp").rmdir()
    inbox.rmdir()
    assert eventually(lambda: one_share.unwatched() == {"vm-0"})

    one_share.mount()
    one_share.watcher.rearm()

    assert one_share.watcher.unwatched == frozenset()
    assert one_share.next_key() == "vm-0"
    one_share.publish("1.host.json")
    assert one_share.next_key() == "vm-0"


@posix
def test_lost_folder_does_not_affect_others(two_shares: WatchedShare) -> None:
    """After one share is lost, the other one notifies as before."""
    two_shares.mount("vm-0")
    two_shares.mount("vm-1")
    two_shares.watcher.rearm()
    assert Counter([two_shares.next_key(), two_shares.next_key()]) == {"vm-0": 1, "vm-1": 1}
    (two_shares.shares["vm-1"] / "inbox").rename(two_shares.shares["vm-1"] / "elsewhere")
    assert eventually(lambda: two_shares.unwatched() == {"vm-1"})

    while not two_shares.is_quiet():  # the watcher may replace the other watch as well
        pass
    two_shares.publish("1.host.json", "vm-0")
    assert two_shares.next_key() == "vm-0"


def test_closed_watcher_does_not_notify(one_share: WatchedShare) -> None:
    """After `close` no notification comes and no thread is left; closing again is no error."""
    one_share.watcher.close()

    one_share.publish("1.host.json")

    assert one_share.is_quiet()
    assert watchdog_threads() == []
    assert one_share.watcher.unwatched == {"vm-0"}
    one_share.watcher.close()


def test_wakeup_set_before_wait_returns_at_once() -> None:
    """If it is set before any wait, the next wait returns at once, and only that one."""
    wakeup = Wakeup()
    wakeup.set("vm-0")
    wakeup.set()

    assert wakeup.wait(PATIENCE_S)
    assert not wakeup.wait(0)


def test_wakeup_set_by_other_thread_ends_wait() -> None:
    """Any thread may set it; the wait ends long before its time-out."""
    wakeup, woken = Wakeup(), threading.Event()

    def wait() -> None:
        if wakeup.wait(60):
            woken.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    wakeup.set()

    assert woken.wait(PATIENCE_S)
    waiter.join()


@pytest.mark.skipif(sys.platform != "linux", reason="the queue is the Linux kernel's")
@pytest.mark.parametrize("backend", ["own"], indirect=True)
def test_queue_overflow_notifies(tmp_path: Path) -> None:
    """The reader is blocked -> more events than the kernel's queue holds, none of which notifies -> a notification all
    the same."""
    held, notified = threading.Event(), queue.SimpleQueue[str]()

    def ring(key: str) -> None:
        notified.put(key)
        held.wait(PATIENCE_S)

    watcher = FolderWatcher({"vm-0": tmp_path}, ring, suffixes=ORDERS)
    held.set()
    watcher.rearm()
    assert notified.get(timeout=PATIENCE_S) == "vm-0"
    held.clear()
    (tmp_path / "1.host.json").touch()
    assert notified.get(timeout=PATIENCE_S) == "vm-0"  # and now the reader is blocked

    for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="utf-8")) + 1):
        file = tmp_path / f"{number % 2}"
        file.touch()
        file.unlink()
    held.set()

    assert notified.get(timeout=PATIENCE_S) == "vm-0"
    watcher.close()


# --------------------------------------------------------------------------------- a folder that cannot be watched

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and rights of Linux")
with_inotify = pytest.mark.parametrize("backend", ["own"], indirect=True)


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """For the duration of the block this process can open only so many files."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 512), limits[1]))
    opened = []
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(opened.pop())
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since the last call."""
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


@linux
@with_inotify
def test_limit_is_logged_once_until_it_is_gone(two_shares: WatchedShare, caplog: pytest.LogCaptureFixture) -> None:
    """Two folders and many attempts -> one line, which names the limit; one more when both folders are watched."""
    two_shares.mount("vm-0")
    two_shares.mount("vm-1")

    with descriptors_left(0):
        for _ in range(100):
            two_shares.now += 10
            assert two_shares.unwatched() == {"vm-0", "vm-1"}
    reason = "this process has no file descriptor left; raise the limit (ulimit -n)"
    assert warnings_of(caplog) == [f"changes are not notified, polling instead: {reason}"]

    two_shares.now += RETRY_MAX_S
    assert two_shares.unwatched() == frozenset()
    assert warnings_of(caplog) == [f"changes are notified again, after: {reason}"]
    assert {two_shares.next_key(), two_shares.next_key()} == {"vm-0", "vm-1"}


@linux
@with_inotify
@pytest.mark.parametrize("left", [0, 1, 2])
def test_failed_attempts_keep_no_descriptor(one_share: WatchedShare, left: int) -> None:
    """Also if one is left, and watchdog needs three."""
    one_share.watcher.close()
    before = len(os.listdir("/proc/self/fd"))

    with descriptors_left(left):
        for _ in range(5):
            one_share.now += RETRY_MAX_S
            assert one_share.unwatched() == {"vm-0"}

    assert len(os.listdir("/proc/self/fd")) == before


@linux
@with_inotify
def test_forbidden_folder_is_tried_less_and_less_often(
    one_share: WatchedShare, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """After one second, then after two; the line names the folder. Once this user may read it, it is watched."""
    one_share.watcher.close()
    allow_traversal(tmp_path)
    inbox = one_share.shares["vm-0"] / "inbox"
    inbox.chmod(0o300)

    with as_unprivileged_user():
        for one_share.now in (0.0, 0.9, 1.0, 2.9):
            assert one_share.unwatched() == {"vm-0"}
    assert warnings_of(caplog) == [f"changes are not notified, polling instead: {inbox}: permission denied"]

    inbox.chmod(0o755)
    with as_unprivileged_user():
        assert one_share.unwatched() == {"vm-0"}
        one_share.now = 3.0
        assert one_share.unwatched() == frozenset()
    assert [line.partition(",")[0] for line in warnings_of(caplog)] == ["changes are notified again"]
    assert one_share.next_key() == "vm-0"

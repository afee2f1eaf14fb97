"""Shares over SMB on a real Samba server: behaviour that needs a server. The contract of all shares is in
tests/conformance."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from smbprotocol.header import Commands

from inbox_agent.protocol.files import Delivery, FileAlreadyExists, FileMissing, Unavailable
from pipeline.shares.share_client import ENTRIES_MAX
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.messages import SmbReply, SmbRequest
from pipeline.shares.smb.seal import Encryption
from pipeline.shares.smb.session import SmbAccess, SmbSession
from tests.fakes.smb_proxy import Proxy
from tests.harness.samba import ACCOUNT, OTHER_ACCOUNT, PASSWORD, Samba, SmbShares, give_to_account, samba
from tests.harness.waiting import eventually

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def server() -> Iterator[Samba]:
    """A server of this test alone, which it may kill, stop and start."""
    with samba() as server:
        yield server


@pytest.fixture
def notified() -> threading.Event:
    return threading.Event()


@pytest.fixture
def files(server: Samba, notified: threading.Event) -> Iterator[SmbFiles]:
    """Its share, with the folders of the layout."""
    session = SmbSession(access(server), limit_s=2)
    files = SmbFiles(session, notified.set)
    files.make_folders()
    yield files
    session.drop()


@pytest.fixture
def outbox(server: Samba, files: SmbFiles, notified: threading.Event) -> Path:
    """The outbox on the server's disk. Samba starts to watch a little after its response says so."""
    probe = server.shares["exchange"] / "outbox" / "probe.result.json"

    def notifies() -> bool:
        files.names("outbox")
        probe.touch()
        probe.unlink()
        return notified.wait(0.05)

    def quiet() -> bool:
        notified.clear()
        return files.names("outbox") == ["tmp"] and not notified.wait(0.2)

    assert eventually(notifies, 10)
    assert eventually(quiet, 10)
    return probe.parent


def access(server: Samba, **other: Any) -> SmbAccess:
    fields: dict[str, Any] = {"port": server.port, "account": ACCOUNT, "password": lambda: PASSWORD, **other}
    return SmbAccess(server="127.0.0.1", share="exchange", **fields)


def is_available(files: SmbFiles) -> bool:
    """Whether the share can be read again without help."""

    def asked() -> bool:
        try:
            files.names("outbox")
        except Unavailable:
            return False
        return True

    return eventually(asked, 20)


# -------------------------------------------------------------------------------------------- change notifications


def test_change_notification_after_publish(outbox: Path, files: SmbFiles, notified: threading.Event) -> None:
    """A record that the agent publishes on the server's disk notifies; listing re-arms the notification."""
    for number in range(3):
        files.names("outbox")
        assert files.notifies
        notified.clear()
        (outbox / f"{number}.result.json").write_bytes(b"{}")
        assert notified.wait(5)
        assert not files.notifies


def test_change_between_listings_is_notified(outbox: Path, files: SmbFiles, notified: threading.Event) -> None:
    """A change between two requests notifies at the next one: the server keeps it for an open folder."""
    (outbox / "1.result.json").write_bytes(b"{}")
    assert notified.wait(5)
    notified.clear()
    (outbox / "2.result.json").write_bytes(b"{}")

    assert sorted(files.names("outbox")) == ["1.result.json", "2.result.json", "tmp"]
    assert notified.wait(5)


def test_own_writes_do_not_notify(outbox: Path, files: SmbFiles, notified: threading.Event) -> None:
    """Only `outbox/` is watched."""
    files.deliver("inbox/x.genome", b"g", "inbox/x.start.json", b"{}")
    files.remove(["inbox/x.start.json", "inbox/x.genome"])

    assert not notified.wait(0.3)
    assert files.notifies


def test_lost_connection_notifies(server: Samba, files: SmbFiles, notified: threading.Event) -> None:
    """No further notification would come, so a scan must follow."""
    files.names("outbox")
    server.kill()

    assert notified.wait(5)
    assert not files.notifies
    server.start()
    assert is_available(files)
    assert files.notifies


def test_signed_connection_notifies(notified: threading.Event) -> None:
    """The interim answer to the request is not signed, the notification is."""
    with samba(encrypt="off") as server:
        files = SmbFiles(SmbSession(access(server, encryption=False)), notified.set)
        files.make_folders()

        def notifies() -> bool:
            files.names("outbox")
            (server.shares["exchange"] / "outbox" / f"{time.monotonic_ns()}.result.json").touch()
            return notified.wait(0.1)

        assert eventually(notifies, 10)
        assert files.read_all([("inbox/x.start.json", 10)])  # the connection has not ended


def test_server_without_notifications_is_polled(notified: threading.Event) -> None:
    """It is asked once for each connection, and not again."""
    with samba(options="change notify = no") as server:
        files = SmbFiles(SmbSession(access(server)), notified.set)
        files.make_folders()
        for _ in range(3):
            assert files.names("outbox") == ["tmp"]

        assert eventually(lambda: not files.notifies)
        notified.clear()
        assert files.names("outbox") == ["tmp"]
        assert not notified.wait(0.3)
        assert not files.notifies


# ------------------------------------------------------------------------------------------- servers that disappear


def test_client_reconnects_after_server_restart(server: Samba, files: SmbFiles) -> None:
    """Connection, session and credentials are new; no publication is lost."""
    files.publish("inbox/x.start.json", b"record")
    server.kill()
    with pytest.raises(Unavailable):
        files.read("inbox/x.start.json", 100)
    server.start()

    assert is_available(files)
    assert files.read("inbox/x.start.json", 100) == b"record"


def test_frozen_server_is_unavailable_after_deadline(server: Samba, files: SmbFiles) -> None:
    """It keeps the connection open and does not respond; the next request makes a new one."""
    server.freeze()
    with pytest.raises(Unavailable, match="no answer in time"):
        files.read("inbox/x.start.json", 100)
    server.thaw()

    assert is_available(files)


@pytest.mark.timeout(90)
def test_server_frozen_at_login_is_unavailable_after_deadline(
    server: Samba, files: SmbFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of the log-in has a deadline."""
    monkeypatch.setattr("pipeline.shares.smb.session.CONNECT_LIMIT_S", 2.0)
    server.freeze()
    session = SmbSession(access(server))
    with pytest.raises(Unavailable):
        SmbFiles(session).names("")
    server.thaw()


def test_blocked_send_has_deadline(server: Samba, files: SmbFiles, tmp_path: Path) -> None:
    """A send that the socket does not accept has a deadline, too."""
    large = tmp_path / "large"
    large.write_bytes(bytes(24 * 1024 * 1024))
    server.freeze()
    with pytest.raises(Unavailable):
        files.write("inbox/x.genome", large)
    server.thaw()
    assert is_available(files)
    files.write("inbox/x.genome", large)
    assert files.size("inbox/x.genome") == 24 * 1024 * 1024


def test_recreated_share_has_no_folders(server: Samba, files: SmbFiles) -> None:
    """Unknown while it is gone; without folders when it is back."""
    path = server.shares["exchange"]
    path.rename(path.with_name("gone"))
    with pytest.raises(Unavailable):
        files.names("inbox")
    path.mkdir()
    give_to_account(path)

    assert eventually(lambda: _bare(files), 20)


def _bare(files: SmbFiles) -> bool:
    try:
        return files.names("") == []
    except Unavailable:
        return False


def test_failed_connection_backs_off(server: Samba) -> None:
    """Log-ins are not repeated at once; until the next one requests fail at once, with the reason."""
    server.kill()
    files = SmbFiles(SmbSession(access(server)))
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"Failed to connect|socket was closed"):  # while its processes end
            files.names("")
    with pytest.raises(Unavailable, match="tried again in"):
        files.names("")
    server.start()


# --------------------------------------------------------------------------------------------------------- rights


def test_wrong_password_backs_off_longer(server: Samba) -> None:
    """An account with many failed log-ins may be locked."""
    files = SmbFiles(SmbSession(access(server, password=lambda: "wrong")))
    with pytest.raises(Unavailable) as refused:
        files.names("")
    assert "wrong" not in str(refused.value)
    with pytest.raises(Unavailable, match=r"tried again in (5\d|60)"):
        files.names("")


def test_password_is_fetched_for_each_connection(server: Samba) -> None:
    """The configuration has a reference, so the next connection uses its current value."""
    passwords = iter([PASSWORD, "another one"])
    session = SmbSession(access(server, password=lambda: next(passwords)))
    files = SmbFiles(session)
    assert files.names("") == []
    server.set_password(ACCOUNT, "another one")
    session.drop()

    assert eventually(lambda: _bare(files), 20)


def test_read_only_share_can_be_read() -> None:
    """It can be read; the error of a write has the reason."""
    with samba(read_only=True) as server:
        for folder in ("inbox/tmp", "outbox/tmp", "status"):
            (server.shares["exchange"] / folder).mkdir(parents=True)
        give_to_account(server.shares["exchange"])
        files = SmbFiles(SmbSession(access(server)))

        assert files.names("inbox") == ["tmp"]
        with pytest.raises(Unavailable, match="access denied"):
            files.publish("inbox/x.start.json", b"record")


def test_share_may_be_subfolder(server: Samba, files: SmbFiles) -> None:
    """A NAS has one share and a folder for each machine."""
    (server.shares["exchange"] / "vm-3").mkdir()
    give_to_account(server.shares["exchange"])
    below = SmbFiles(SmbSession(access(server, folder="vm-3")))
    below.make_folders()
    below.publish("inbox/x.start.json", b"of vm-3")

    assert (server.shares["exchange"] / "vm-3/inbox/x.start.json").read_bytes() == b"of vm-3"
    assert sorted(below.names("")) == ["inbox", "outbox", "status"]
    assert sorted(files.names("")) == ["inbox", "outbox", "status", "vm-3"]


# -------------------------------------------------------------------------------------------------------- security


def test_connection_is_encrypted_by_default(files: SmbFiles, server: Samba) -> None:
    """SMB 3.1.1, encrypted."""
    seal = SmbSession(access(server)).connect().seal

    assert seal.dialect == 0x311
    assert isinstance(seal, Encryption)


def test_unencrypted_server_is_refused() -> None:
    """An error is better than continuing without encryption."""
    with samba(encrypt="off") as server:
        with pytest.raises(Unavailable, match="encrypt"):
            SmbFiles(SmbSession(access(server))).names("")
        assert SmbFiles(SmbSession(access(server, encryption=False))).names("") == []


def test_old_dialect_is_refused() -> None:
    """Only 3.1.1, unless the configuration says otherwise."""
    with samba(min_protocol="SMB3_00", max_protocol="SMB3_02") as server:
        with pytest.raises(Unavailable, match=r"older than 3\.1\.1"):
            SmbFiles(SmbSession(access(server))).names("")
        assert SmbFiles(SmbSession(access(server, dialect_min="3.0.2"))).names("") == []


def test_accounts_of_one_server_use_separate_connections(server: Samba, files: SmbFiles) -> None:
    """The rights of one account do not depend on earlier connections of another."""
    other = SmbSession(access(server, account=OTHER_ACCOUNT))
    wrong = SmbSession(access(server, account=OTHER_ACCOUNT, password=lambda: "wrong"))

    assert "inbox" in SmbFiles(other).names("")
    with pytest.raises(Unavailable):
        SmbFiles(wrong).names("")


def test_password_is_never_shown(server: Samba, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in a representation nor in a log or an error at any level."""
    caplog.set_level(logging.DEBUG)
    how = access(server)
    session = SmbSession(how)
    assert SmbFiles(session).names("") == []
    session.drop()

    assert PASSWORD not in repr(how) + str(how) + repr(session) + caplog.text


# --------------------------------------------------------------------------------------------- compounds, large files


def test_status_of_each_compound_member_counts(smb_shares: SmbShares) -> None:
    """A missing file does not affect the others of the same message."""
    files = smb_shares.fresh()
    files.make_folders()
    for name in ("a", "c"):
        files.publish(f"outbox/{name}.result.json", name.encode())

    found = files.read_all([(f"outbox/{name}.result.json", 100) for name in "abc"])

    assert (found[0], found[2]) == (b"a", b"c")
    assert isinstance(found[1], FileMissing)


def test_delivery_to_existing_name_is_refused(smb_shares: SmbShares) -> None:
    """The existing record stays, and nothing is left in the staging folder."""
    files = smb_shares.fresh()
    files.make_folders()
    files.deliver("inbox/x.genome", b"one", "inbox/x.start.json", b"1")
    with pytest.raises(FileAlreadyExists):
        files.deliver("inbox/x.genome", b"two", "inbox/x.start.json", b"2")

    assert files.read("inbox/x.start.json", 10) == b"1"
    assert files.names("inbox/tmp") == []


@pytest.fixture
def proxied(server: Samba, files: SmbFiles) -> Iterator[tuple[SmbFiles, Proxy]]:
    """The same share through a proxy that counts."""
    proxy = Proxy(server.port)
    session = SmbSession(access(server, port=proxy.port))
    through = SmbFiles(session)
    through.names("inbox")
    yield through, proxy
    session.drop()
    proxy.close()


DELIVERIES = [Delivery(f"inbox/{number}.genome", b"g", f"inbox/{number}.json", b"%d" % number) for number in range(6)]


def test_several_deliveries_are_one_message(proxied: tuple[SmbFiles, Proxy]) -> None:
    """As many as the server allows at a time."""
    files, proxy = proxied
    before = proxy.asked

    assert list(files.deliver_all(DELIVERIES)) == [None] * 6
    assert proxy.asked == before + 1


def test_lost_answer_confirms_no_delivery_of_its_message(proxied: tuple[SmbFiles, Proxy], files: SmbFiles) -> None:
    """The server has executed all of them, which the host finds out at its next scan."""
    through, proxy = proxied
    proxy.lose_next_answer()

    outcomes = list(through.deliver_all(DELIVERIES))

    assert len(outcomes) == 6
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert {f"{number}.json" for number in range(6)} < set(files.names("inbox"))


def test_many_files_are_split_over_messages(smb_shares: SmbShares) -> None:
    """More than fit into one message, or into one response."""
    files = smb_shares.fresh()
    files.make_folders()
    names = {f"g0001-{number:04d}-t1-a1-abcdefghijkl.result.json" for number in range(200)}
    for name in names:
        files.publish(f"outbox/{name}", name.encode())

    assert set(files.names("outbox")) == names | {"tmp"}
    asked = [(f"outbox/{name}", 65536) for name in sorted(names)]
    assert files.read_all(asked) == [name.encode() for name in sorted(names)]
    files.remove(f"outbox/{name}" for name in names)
    assert files.names("outbox") == ["tmp"]


def test_large_listing_is_read_in_parts(server: Samba, files: SmbFiles) -> None:
    """As many names as are allowed do not fit into one response, if they are long."""
    names = {f"{number:0200d}.log" for number in range(ENTRIES_MAX - 1)}
    for name in names:
        (server.shares["exchange"] / "outbox" / name).touch()

    assert set(files.names("outbox")) == names | {"tmp"}


class SessionWithoutCompounds(SmbSession):
    """A session with a server that does not accept several files in one message."""

    messages = 0

    def exchange(self, requests: Sequence[SmbRequest]) -> list[SmbReply]:
        self.messages += 1
        creates = [at for at, request in enumerate(requests) if request.command == Commands.SMB2_CREATE]
        if len(creates) < 2:
            return super().exchange(requests)
        done = super().exchange(requests[: creates[1]])
        return [*done, *[SmbReply(0xC000000D)] * (len(requests) - len(done))]


def test_server_without_compounds_gets_single_files(server: Samba, files: SmbFiles) -> None:
    """It is asked once, then for one file at a time; everything arrives all the same."""
    session = SessionWithoutCompounds(access(server))
    slow = SmbFiles(session)
    for number in range(3):
        slow.deliver(f"inbox/{number}.genome", b"g", f"inbox/{number}.start.json", b"%d" % number)
    session.messages = 0
    asked = [(f"inbox/{number}.start.json", 10) for number in range(3)]

    assert slow.read_all(asked) == [b"0", b"1", b"2"]
    assert session.messages == 3
    slow.remove(path for number in range(3) for path in (f"inbox/{number}.start.json", f"inbox/{number}.genome"))
    assert files.names("inbox") == ["tmp"]
    assert session.messages == 9

"""A private Samba server on a loopback port, with its own folders and accounts: for tests and the bench.

It runs the system's `smbd`. Shares are folders that the test may look into; the server may be killed, stopped and
started again on the same port.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import smbclient

from inbox_agent.protocol.files import ShareFiles
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.session import SmbAccess, SmbSession
from tests.harness.other_user import allow_traversal
from tests.harness.waiting import eventually
from tests.programs.system_programs import SAMBA, require

PASSWORD = "S3cret-canary!"
#: Accounts must be users of the system; these are on every Debian, and own nothing.
ACCOUNT, OTHER_ACCOUNT = "nobody", "daemon"

_GLOBAL = """\
[global]
server role = standalone server
smb ports = {port}
bind interfaces only = yes
interfaces = 127.0.0.1
disable netbios = yes
load printers = no
printcap name = /dev/null
disable spoolss = yes
map to guest = never
oplocks = no
server signing = mandatory
server min protocol = {min_protocol}
server max protocol = {max_protocol}
smb encrypt = {encrypt}
passdb backend = smbpasswd:{root}/smbpasswd
private dir = {root}/private
lock directory = {root}/lock
state directory = {root}/state
cache directory = {root}/cache
pid directory = {root}/pid
ncalrpc dir = {root}/ncalrpc
log file = {root}/log
log level = 0
{options}
"""
_SHARE = """
[{name}]
path = {path}
read only = {read_only}
valid users = {users}
create mask = 0664
directory mask = 0775
"""


class Samba:
    """One server. Its shares are `shares[name]`, folders on this disk."""

    def __init__(
        self,
        root: Path,
        *names: str,
        encrypt: str = "desired",
        min_protocol: str = "SMB3_11",
        max_protocol: str = "SMB3",
        options: str = "",
        read_only: bool = False,
        users: str = f"{ACCOUNT} {OTHER_ACCOUNT}",
    ) -> None:
        self.root = root
        self.port = free_port()
        self.shares = {name: root / "shares" / name for name in names or ("exchange",)}
        self._process: subprocess.Popen[bytes] | None = None
        for folder in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
            (root / folder).mkdir(parents=True)
        allow_traversal(root)  # the account must get through to its share
        for path in self.shares.values():
            path.mkdir(parents=True)
            give_to_account(path)
        text = _GLOBAL.format(
            port=self.port,
            root=root,
            encrypt=encrypt,
            min_protocol=min_protocol,
            max_protocol=max_protocol,
            options=options,
        )
        for name, path in self.shares.items():
            text += _SHARE.format(name=name, path=path, read_only="yes" if read_only else "no", users=users)
        self._conf = root / "smb.conf"
        self._conf.write_text(text)
        for account in (ACCOUNT, OTHER_ACCOUNT):
            self.set_password(account, PASSWORD)
        self.start()

    def set_password(self, account: str, password: str) -> None:
        """Gives an account a (new) password."""
        subprocess.run(
            ["smbpasswd", "-c", self._conf, "-s", "-a", account],
            input=f"{password}\n{password}\n".encode(),
            check=True,
            capture_output=True,
        )

    def unc(self, name: str = "exchange") -> str:
        """The share as a user writes it."""
        return rf"\\127.0.0.1\{name}"

    def start(self) -> None:
        """Starts the server; returns when its port answers."""
        self._process = subprocess.Popen(
            ["smbd", "--foreground", "--no-process-group", f"--configfile={self._conf}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert eventually(self._answers, 20), (self.root / "log").read_text()

    def kill(self) -> None:
        """`kill -9` of the server and of all its connections."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self._process is not None:
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """The server stands still: connections stay, nothing answers."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.suspend()

    def thaw(self) -> None:
        """It goes on."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.resume()

    def drop_connections(self) -> None:
        """Kills the processes of all connections; the server itself stays."""
        for process in self._processes()[1:]:
            try:
                if process.net_connections(kind="tcp4") and process.cmdline():
                    process.send_signal(signal.SIGKILL)
            except psutil.Error:
                continue

    def close(self) -> None:
        """Ends it."""
        self.thaw()
        self.kill()

    def _processes(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        try:
            server = psutil.Process(self._process.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def give_to_account(path: Path) -> None:
    """Gives a folder of this disk to the account that the shares are used with."""
    import pwd  # not on Windows, which never comes so far

    user = pwd.getpwnam(ACCOUNT)
    for found in (path, *path.rglob("*")):
        os.chown(found, user.pw_uid, user.pw_gid)
        found.chmod(found.stat().st_mode | 0o060)


def free_port() -> int:
    """A port of loopback that nobody has, and that no outgoing connection is given while nobody listens on it.

    Source: IANA's registered ports end at 49151, but Linux hands out those from 32768 on (ip_local_port_range).
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("100 ports and somebody had each")


@contextmanager
def samba(*names: str, disk: Path | None = None, **options: Any) -> Iterator[Samba]:
    """A server for as long as the block runs; without Samba or the rights to run it, the test is skipped.

    Its folders lie on `disk`, or in a place of their own: through pytest's nobody but its user gets.
    """
    require(*SAMBA, root=True)  # root: the server has accounts of its own
    with tempfile.TemporaryDirectory(prefix="samba-", dir=disk, ignore_cleanup_errors=True) as place:
        server = Samba(Path(place) / "server", *names, **options)
        try:
            yield server
        finally:
            server.close()


@contextmanager
def exchange(*names: str) -> Iterator[Samba]:
    """A server whose shares are laid out, as the agents beside them would have done it."""
    with samba(*names) as server:
        for path in server.shares.values():
            LocalFiles(path).make_folders()
            give_to_account(path)
        yield server


def worker_table(name: str, port: int, **other: str) -> str:
    """The part of pipeline.toml that names a share; its password comes from the environment."""
    told = {"name": name, "share": rf"\\127.0.0.1\{name}", "account": ACCOUNT, "secret": "env:FARM_SECRET", **other}
    lines = [f"{key} = '{value}'" for key, value in told.items()]
    return "\n".join(["[[worker]]", *lines, f"port = {port}"])


class SmbShares:
    """Many empty shares of one server, a fresh one for each that asks."""

    COUNT = 120

    def __init__(self, server: Samba) -> None:
        self.server = server
        self._names = iter(server.shares)
        self._names_of: dict[SmbFiles, str] = {}
        self._sessions: list[SmbSession] = []

    def access(self, name: str, **other: Any) -> SmbAccess:
        """How one of them is reached."""
        told: dict[str, Any] = {"account": ACCOUNT, "password": lambda: PASSWORD}
        return SmbAccess(server="127.0.0.1", share=name, port=self.server.port, **{**told, **other})

    def files(self, access: SmbAccess, **limits: Any) -> SmbFiles:
        """A share, with a connection of its own."""
        session = SmbSession(access, **limits)
        self._sessions.append(session)
        return SmbFiles(session)

    def fresh(self) -> SmbFiles:
        """An empty share."""
        name = next(self._names)
        files = self.files(self.access(name))
        self._names_of[files] = name
        return files

    def missing_share(self) -> SmbFiles:
        """A share that the server does not have."""
        return self.files(self.access("nowhere"))

    @contextmanager
    def held_open(self, files: ShareFiles, path: str) -> Iterator[None]:
        """For as long as the block runs, somebody else has a file of one of them open, and lets nobody have it."""
        assert isinstance(files, SmbFiles)
        unc = rf"\\127.0.0.1\{self._names_of[files]}\{path}".replace("/", "\\")
        account = {"username": ACCOUNT, "password": PASSWORD, "port": self.server.port}
        connections: dict[str, Any] = {}
        try:
            with smbclient.open_file(unc, "rb", buffering=0, connection_cache=connections, **account):
                yield
        finally:
            smbclient.reset_connection_cache(connection_cache=connections)

    def close(self) -> None:
        """Ends all connections."""
        for session in self._sessions:
            session.drop()

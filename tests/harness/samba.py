"""A private Samba server on a loopback port, with its own folders and accounts: for tests and the bench.

It runs the system's `smbd`. Shares are folders that the test may access directly; the server may be killed, stopped and
restarted on the same port.
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
#: Accounts must be users of the system; these exist on every Debian, and own nothing.
ACCOUNT, OTHER_ACCOUNT = "nobody", "daemon"

_GLOBAL = """\
[global]
server role = standalone server
smb ports = {port}
bind interfaces only = yes
interfaces = 127.0.0.1/8 127.0.0.11/8 127.0.0.12/8
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
        self.encrypts = encrypt != "off"
        self.shares = {name: root / "shares" / name for name in names or ("exchange",)}
        self._process: subprocess.Popen[bytes] | None = None
        for folder in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
            (root / folder).mkdir(parents=True)
        allow_traversal(root)  # the account must be able to traverse to its share
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

    def disable(self, account: str) -> None:
        """Disables an account."""
        subprocess.run(["smbpasswd", "-c", self._conf, "-d", account], check=True, capture_output=True)

    def unc(self, name: str = "exchange") -> str:
        """The UNC path of a share."""
        return rf"\\127.0.0.1\{name}"

    def start(self) -> None:
        """Starts the server; returns when its port accepts connections."""
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
        """Suspends the server: connections stay open, no request is answered."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.suspend()

    def thaw(self) -> None:
        """Resumes it."""
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
        """Kills the server."""
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
    """Gives a local folder to the account that accesses the shares."""
    import pwd  # not available on Windows, where this is not called

    user = pwd.getpwnam(ACCOUNT)
    for found in (path, *path.rglob("*")):
        os.chown(found, user.pw_uid, user.pw_gid)
        found.chmod(found.stat().st_mode | 0o060)


def free_port() -> int:
    """A loopback port that is free, and that the system does not use for outgoing connections.

    Source: IANA's registered ports end at 49151, but Linux hands out those from 32768 on (ip_local_port_range).
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("100 ports were tried and all are in use")


@contextmanager
def samba(*names: str, disk: Path | None = None, **options: Any) -> Iterator[Samba]:
    """A server for the duration of the block; without Samba or the rights to run it, the test is skipped.

    Its folders are on `disk`, or in a temporary folder that other accounts can access, unlike pytest's.
    """
    require(*SAMBA, root=True)  # root: the server has its own accounts
    with tempfile.TemporaryDirectory(prefix="samba-", dir=disk, ignore_cleanup_errors=True) as place:
        server = Samba(Path(place) / "server", *names, **options)
        try:
            yield server
        finally:
            server.close()


@contextmanager
def exchange(*names: str) -> Iterator[Samba]:
    """A server whose shares have the folders of the layout, as if made by agents."""
    with samba(*names) as server:
        for path in server.shares.values():
            LocalFiles(path).make_folders()
            give_to_account(path)
        yield server


def worker_table(name: str, port: int, **other: str) -> str:
    """The part of pipeline.toml for an SMB share; the password comes from the environment."""
    settings = {"name": name, "share": rf"\\127.0.0.1\{name}", "account": ACCOUNT, "secret": "env:FARM_SECRET", **other}
    lines = [f"{key} = '{value}'" for key, value in settings.items()]
    return "\n".join(["[[worker]]", *lines, f"port = {port}"])


class SmbShares:
    """Many empty shares of one server, a new one for each call of `fresh`."""

    COUNT = 120

    def __init__(self, server: Samba) -> None:
        self.server = server
        self._names = iter(server.shares)
        self._names_of: dict[SmbFiles, str] = {}
        self._sessions: list[SmbSession] = []

    def access(self, name: str, **other: Any) -> SmbAccess:
        """The settings for access to one of them."""
        settings: dict[str, Any] = {"account": ACCOUNT, "password": lambda: PASSWORD}
        return SmbAccess(server="127.0.0.1", share=name, port=self.server.port, **{**settings, **other})

    def files(self, access: SmbAccess, **limits: Any) -> SmbFiles:
        """A share with its own connection."""
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
        """A share that does not exist on the server."""
        return self.files(self.access("nowhere"))

    @contextmanager
    def held_open(self, files: ShareFiles, path: str) -> Iterator[None]:
        """For the duration of the block, another client holds a file open exclusively."""
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
        """Closes all connections."""
        for session in self._sessions:
            session.drop()

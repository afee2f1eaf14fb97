"""A systemd of its own: the manager of a user's services, in namespaces where it sees no other process or cgroup."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.harness.waiting import eventually

_RUNTIME = "/run/user-manager"
_BEGIN = f"""
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system  # where it is missing, a manager of users does not start
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$1"
echo $$ > "/sys/fs/cgroup/$1/cgroup.procs"
mkdir -m 700 {_RUNTIME}
XDG_RUNTIME_DIR={_RUNTIME} /lib/systemd/systemd --user --log-target=console &
wait
"""


class UserServices:
    """A running manager; `home` is its user's. Needs the programs `SYSTEMD`, and root."""

    def __init__(self, home: Path) -> None:
        self._environment = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_RUNTIME_DIR": _RUNTIME}
        alone = ["unshare", "--mount", "--cgroup", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self._process = subprocess.Popen(
            [*alone, "sh", "-c", _BEGIN, "sh", f"test-{os.getpid()}"],
            env={**os.environ, **self._environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        assert eventually(lambda: self._runs() and self.run("systemctl", "--user", "is-system-running").stdout)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()  # the first process of the namespace ends with it, and all others with that
        self._process.wait()

    def run(self, *words: str | Path, environment: Mapping[str, str] = {}) -> "subprocess.CompletedProcess[str]":
        """Runs a program beside the manager, as its user."""
        inside = ["nsenter", "--target", str(self._first().pid), "--mount", "--pid", "--cgroup"]
        return subprocess.run(
            [*inside, *map(str, words)],
            env={**os.environ, **self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def processes(self, words: Sequence[str]) -> list[psutil.Process]:
        """The processes beside the manager whose command lines have these words."""
        every = self._first().children(recursive=True)
        return [one for one in every if set(words) <= set(one.cmdline())]

    def _runs(self) -> bool:
        return bool(psutil.Process(self._process.pid).children())

    def _first(self) -> psutil.Process:
        return psutil.Process(self._process.pid).children()[0]

"""`pipeline serve` in its own process, and requests to it."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.samba import free_port
from tests.harness.waiting import eventually


@contextmanager
def served(root: Path, *options: str) -> Iterator[str]:
    """The address that the command printed."""
    command = [sys.executable, "-m", "pipeline", "serve", "--root", str(root), "--port", str(free_port()), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert server.stdout is not None
    try:
        address = server.stdout.readline().decode().strip()
        assert eventually(lambda: status(here(address).partition("?")[0]), 20)
        yield address
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def here(address: str) -> str:
    """The same address on this computer, whatever name it uses for others."""
    return address.replace(socket.gethostname(), "127.0.0.1")


def status(address: str, **headers: str) -> int:
    """The status code of a request; 0: no server answers."""
    return answer_of(address, **headers)[0]


def answer_of(address: str, **headers: str) -> tuple[int, str, str]:
    """Status code, content type and text of the answer to a request; 0 and nothing: no server answers."""
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
            return int(answer.status), answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()
    except OSError:
        return 0, "", ""

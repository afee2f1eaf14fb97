"""`pipeline serve --control` in its own process, which is killed and started again at the same address."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.access import AccessScope
from pipeline.paths import ProjectPaths
from pipeline.storage.token_store import TokenStore
from tests.harness.samba import free_port
from tests.harness.served_project import status
from tests.harness.waiting import eventually


class ControlServer:
    """A server of a project, with a token of each scope."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        store = TokenStore(ProjectPaths(root))
        self.tokens = {str(scope): store.make(str(scope), scope, time.time(), None) for scope in AccessScope}
        self.process = self._started()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """With the scope `control`."""
        return self.tokens["control"]

    def restart(self) -> None:
        """Kills it and starts it again; does not wait until it answers."""
        self.kill()
        self.process = self._started()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait_until_ready(self) -> None:
        assert eventually(lambda: status(f"{self.url}/v1/health") == 200), "the server does not answer"

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "pipeline", "serve", "--control", "--port", str(self.port)]
        return subprocess.Popen(
            [*command, "--root", str(self.root)], stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )


@contextmanager
def control_server(root: Path) -> Iterator[ControlServer]:
    """Serves a project until the block ends."""
    server = ControlServer(root)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()

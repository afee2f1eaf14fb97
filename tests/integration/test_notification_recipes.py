"""The recipes of docs/how-to/notifications.md, run by the real hook against real servers for HTTP and for mail."""

import base64
import email
import email.policy
import http.server
import json
import re
import socketserver
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.config import Config, HooksTable, load_config
from pipeline.core.facts import WorkerOut
from pipeline.host.hooks import Hooks
from tests.fakes.wsman_server import self_signed
from tests.harness.core import CoreHarness
from tests.harness.source_tree import ROOT
from tests.programs.system_programs import require

pytestmark = [pytest.mark.source, pytest.mark.timeout(60)]
DOCUMENT = (ROOT / "docs/how-to/notifications.md").read_text(encoding="utf-8")
#: What the share of a worker says is in the text of an event.
REASON = 'März: "x"; $(reboot) `y`\\ <b>'
#: On real Windows also the one for PowerShell.
WEBHOOKS = ("curl", "webhook.py", *(("webhook.ps1",) if sys.platform == "win32" else ()))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)


def recipe(program: str) -> HooksTable:
    """The `[hooks]` table that starts this program."""
    tables = [tomllib.loads(block).get("hooks", {}) for block in blocks("toml")]
    (found,) = [table for table in tables if program in table.get("command", ())]
    return msgspec.convert(found, HooksTable)


def call_hook(table: HooksTable, root: Path, environment: dict[str, str] | None = None) -> None:
    core = CoreHarness("w0", genomes=2)
    core.record(fact := WorkerOut(worker="w0", reason=REASON))
    hooks = Hooks(table, root, environment)
    hooks.notify([fact], core.farm)
    hooks.close()


@contextmanager
def webhook(requests: list[tuple[str, str, bytes]], status: int = 200) -> Iterator[str]:
    """A receiver of webhooks; notes token, type and body of each request."""

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.headers.get("Authorization", ""), self.headers["Content-Type"], body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)) as port:
        yield f"http://127.0.0.1:{port}/secret"


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    """The port of a server while it runs."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


class MailServer(socketserver.TCPServer):
    """A server for mail over TLS with one account; keeps what it accepts."""

    def __init__(self, certificate: Path, user: str, password: str) -> None:
        self.context = self_signed(certificate)
        self.account = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self.accepted: list[tuple[str, str, EmailMessage]] = []  #: sender, recipient, message
        super().__init__(("127.0.0.1", 0), _MailSession)


class _MailSession(socketserver.BaseRequestHandler):
    server: MailServer

    def handle(self) -> None:
        with self.server.context.wrap_socket(self.request, server_side=True) as secured:
            lines = secured.makefile("rwb", buffering=0)
            lines.write(b"220 test\r\n")
            is_known, addresses = False, list[str]()
            while line := lines.readline().decode().strip():
                verb = line.partition(" ")[0].upper()
                if verb == "EHLO":
                    lines.write(b"250-test\r\n250 AUTH PLAIN\r\n")
                elif verb == "AUTH":
                    is_known = line == f"AUTH PLAIN {self.server.account}"
                    lines.write(b"235 known\r\n" if is_known else b"535 unknown\r\n")
                elif verb == "DATA" and is_known:
                    lines.write(b"354 go on\r\n")
                    data = b"".join(iter(lines.readline, b".\r\n"))
                    message = email.message_from_bytes(data, policy=email.policy.default)
                    assert isinstance(message, EmailMessage)
                    self.server.accepted.append((addresses[0], addresses[1], message))
                    lines.write(b"250 accepted\r\n")
                else:
                    addresses += re.findall(r"<(.+)>", line)
                    lines.write(b"221 bye\r\n" if verb == "QUIT" else b"250 ok\r\n")


def write_programs(root: Path) -> None:
    """The programs of the document, under the names that it gives them."""
    webhook_py, mail_py = blocks("python")
    (webhook_ps1,) = blocks("powershell")
    for name, text in {"webhook.py": webhook_py, "mail.py": mail_py, "webhook.ps1": webhook_ps1}.items():
        (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("program", WEBHOOKS)
def test_webhook_gets_the_event(tmp_path: Path, caplog: pytest.LogCaptureFixture, program: str) -> None:
    """Whatever a share says in it; address and token are on no command line."""
    if program == "curl":
        require("curl")
    write_programs(tmp_path)
    requests: list[tuple[str, str, bytes]] = []
    with webhook(requests) as url:
        (settings,) = blocks("text")
        (tmp_path / "webhook.curl").write_text(re.sub(r"https://[^\"]+", url, settings))
        (tmp_path / "webhook.txt").write_text(f"{url}\n")
        table = recipe(program)
        call_hook(table, tmp_path)

    assert caplog.text == ""
    ((token, kind, body),) = requests
    assert kind.startswith("application/json")
    assert REASON in json.loads(body)["text"]
    assert token == ("Bearer secret" if program == "curl" else "")
    assert "secret" not in " ".join(table.command)


@pytest.mark.parametrize("program", WEBHOOKS)
def test_refused_webhook_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture, program: str) -> None:
    """With what the receiver answered, and without the address, which is a secret."""
    if program == "curl":
        require("curl")
    write_programs(tmp_path)
    with webhook([], status=403) as url:
        (tmp_path / "webhook.curl").write_text(f'url = "{url}"\n')
        (tmp_path / "webhook.txt").write_text(url)
        call_hook(recipe(program), tmp_path)

    assert "the hook for out ended with" in caplog.text and "403" in caplog.text
    assert "secret" not in caplog.text


def test_mail_gets_the_event(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS to a server whose certificate is checked, by an account; the subject has nothing of a share."""
    write_programs(tmp_path)
    (settings,) = [block for block in blocks("toml") if "[mail]" in block]
    certificate = tmp_path / "certificate.pem"
    with MailServer(certificate, "farm", "secret") as server, serving(server) as port:
        (tmp_path / "mail.toml").write_text(settings.replace("smtp.example", "localhost").replace("465", str(port)))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        call_hook(recipe("mail.py"), tmp_path)

    assert caplog.text == ""
    ((sender, to, message),) = server.accepted
    assert (sender, to, message["Subject"]) == ("farm@example.org", "you@example.org", "farm: out")
    assert REASON in message.get_content() and "submitted: 2" in message.get_content()


def test_mail_server_with_another_certificate_gets_no_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_programs(tmp_path)
    (settings,) = [block for block in blocks("toml") if "[mail]" in block]
    with MailServer(tmp_path / "certificate.pem", "farm", "secret") as server, serving(server) as port:
        (tmp_path / "mail.toml").write_text(settings.replace("smtp.example", "localhost").replace("465", str(port)))
        call_hook(recipe("mail.py"), tmp_path)

    assert server.accepted == []
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


def test_documented_tables_are_valid(tmp_path: Path) -> None:
    """Each of them is accepted as a `pipeline.toml`; every event of the table is one of the code."""
    for block in blocks("toml"):
        if "[hooks]" in block:
            (tmp_path / "pipeline.toml").write_text(block, encoding="utf-8")
            assert load_config(tmp_path, check=False).hooks.command
    events = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    code = (ROOT / "pipeline/host/hooks.py").read_text(encoding="utf-8")
    assert events == re.findall(r'self\._put\("(\w+)"', code)
    assert Config().hooks.timeout_s == 60 and "`timeout_s` (60)" in DOCUMENT

"""docs/how-to/remote-client.md: its programs and commands work, with TLS and scoped tokens."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from pipeline.cli import main
from pipeline.ui.server_certificate import TlsFiles
from tests.harness.http_farm import http_farm
from tests.harness.source_tree import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.source, pytest.mark.timeout(180)]

PAGE = (ROOT / "docs/how-to/remote-client.md").read_text(encoding="utf-8")
GAME = "def play(genome, trial):\n    return float(genome.read_bytes()[0])\n"
CONFIGURATION = '[evaluator]\npython = "my_game:play"\n\n[generation]\ntrials_per_genome = 1\n\n[local]\nworkers = 1\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with tokens and the authority, and the address of the server that each name of the page stands for."""
    folder, addresses, authority = tmp_path_factory.mktemp("page"), dict[str, str](), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    (calls,) = blocks("toml")
    with ExitStack() as stack:
        for name, token, configuration in (
            ("farm", "token", CONFIGURATION),
            ("other", "other-token", CONFIGURATION),
            ("calls", "calls-token", f"{calls}\n[local]\nworkers = 1\n"),
        ):
            root = folder / name
            root.mkdir()
            (root / "pipeline.toml").write_text(configuration)
            (root / "my_game.py").write_text(GAME)
            served = stack.enter_context(http_farm(root, tls=TlsFiles(folder / "cert.pem", folder / "key.pem")))
            (folder / token).write_text(served.secret("submit"))
            (folder / token).chmod(0o600)
            addresses[f"https://{name}.example:8765"] = served.url
        yield folder, addresses


def there(text: str, addresses: dict[str, str]) -> str:
    """The text with the addresses of the servers."""
    for name, address in addresses.items():
        text = text.replace(name, address)
    return text


def test_programs_and_commands_of_the_page_work(
    place: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after another, as they are but for the addresses."""
    folder, addresses = place
    shown = []
    for program in blocks("python"):
        command = [sys.executable, "-W", "error", "-c", there(program, addresses)]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        shown.append(ran.stdout)
    evaluated, submitted, several, called = shown
    assert evaluated == "0.bin 0.0\n1.bin 1.0\n2.bin 2.0\n3.bin 3.0\n"
    assert submitted == "20 genomes counted\n"
    assert [line.rpartition(" ")[2] for line in several.splitlines()] == [
        addresses[f"https://{name}.example:8765"] for name in ("farm", "other", "farm")
    ]
    assert called == "[9, 4, 1, 0, 1]\n"

    monkeypatch.chdir(folder)
    install, commands = blocks("sh")
    assert install == 'pip install "genome-pipeline[remote]"\n'
    for line in there(commands, addresses).replace("3.bin", "a.bin").splitlines():
        assert main.run_commands(shlex.split(line)[1:]) == 0, line
    assert "a.bin" in capsys.readouterr().out

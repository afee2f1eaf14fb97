"""The HTTP interface over TLS: who trusts which certificate, which versions are spoken, which files are refused."""

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.errors import InputError
from pipeline.ui import server_certificate
from pipeline.ui.server_certificate import TlsFiles
from tests.harness.certificates import Authority, make_authority
from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import HttpFarm, http_farm, received
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> FarmProject:
    project = FarmProject(tmp_path_factory.mktemp("tls") / "farm")
    project.configure(workers=1)
    return project


@pytest.fixture(scope="module")
def farm(project: FarmProject, authority: Authority) -> Iterator[HttpFarm]:
    with http_farm(project.root, control=False, tls=authority.files("127.0.0.1", "localhost")) as farm:
        yield farm


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.certificate)


def test_client_that_trusts_the_authority_is_answered(farm: HttpFarm, authority: Authority) -> None:
    with farm.client("read", verify=trusting(authority)) as client:
        assert client.get("/project").status_code == 200


def test_unknown_authority_is_not_trusted(farm: HttpFarm, tmp_path: Path) -> None:
    """Without a trusted certificate no token is sent."""
    for context in (ssl.create_default_context(), trusting(make_authority(tmp_path / "other"))):
        with (
            farm.client("read", verify=context) as client,
            pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY"),
        ):
            client.get("/project")


@pytest.mark.parametrize("kind", ["expired", "of another name"])
def test_wrong_certificate_is_not_trusted(project: FarmProject, authority: Authority, kind: str) -> None:
    files = authority.expired_files("127.0.0.1") if kind == "expired" else authority.files("farm.example")
    with (
        http_farm(project.root, control=False, tls=files) as farm,
        farm.client("", verify=trusting(authority)) as client,
        pytest.raises(httpx.ConnectError, match="expired" if kind == "expired" else "IP address mismatch"),
    ):
        client.get("/health")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(farm: HttpFarm, authority: Authority, version: ssl.TLSVersion) -> None:
    """1.2 and 1.3 are spoken."""
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = version
    with pytest.warns(DeprecationWarning):
        context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", farm.port), timeout=10) as plain,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    for good in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(authority)
        context.minimum_version = context.maximum_version = good
        with socket.create_connection(("127.0.0.1", farm.port), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname="127.0.0.1").close()


def serial_number(farm: HttpFarm, authority: Authority) -> str:
    """Of the certificate that a new connection gets."""
    with (
        socket.create_connection(("127.0.0.1", farm.port), timeout=10) as plain,
        trusting(authority).wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        found = connection.getpeercert()
    assert found is not None
    return str(found["serialNumber"])


def test_renewed_certificate_is_used_without_a_restart(
    project: FarmProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """New connections get it, others go on. Files that cannot be used keep the one before them, with one warning."""
    monkeypatch.setattr(server_certificate, "RENEWAL_LOOK_S", 0.02)
    authority = make_authority(tmp_path)
    files = authority.files("127.0.0.1")
    with (
        http_farm(project.root, control=False, tls=files) as farm,
        farm.client("", verify=trusting(authority)) as client,
    ):
        first = serial_number(farm, authority)
        assert client.get("/health").status_code == 200
        files.certificate.write_text("no certificate")
        assert eventually(lambda: "the one before it stays" in caplog.text)
        assert serial_number(farm, authority) == first

        authority.files("127.0.0.1")  # the same files with another certificate and key

        assert eventually(lambda: serial_number(farm, authority) != first)
        assert client.get("/health").status_code == 200
    assert caplog.text.count("the one before it stays") == 1


def test_plain_request_to_tls_port_is_not_answered(farm: HttpFarm) -> None:
    """And does not disturb the server."""
    assert b"200 OK" not in farm.raw(b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 5.0)


def test_silent_client_does_not_hold_up_others(farm: HttpFarm, authority: Authority) -> None:
    """One that begins no handshake, and one that sends something else."""
    with (
        socket.create_connection(("127.0.0.1", farm.port)) as silent,
        socket.create_connection(("127.0.0.1", farm.port), timeout=10) as other,
    ):
        other.sendall(b"\x16\x03\x01\xff\xff" + b"\0" * 100)
        with farm.client("read", verify=trusting(authority)) as client:
            assert client.get("/project").status_code == 200
        received(other)
        silent.close()


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.files("a.example"), authority.files("b.example")
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    broken.chmod(0o600)
    for files, reason in (
        (TlsFiles(tmp_path / "missing.pem", good.key), "No such file or directory"),
        (TlsFiles(good.certificate, tmp_path / "missing.key"), r"missing\.key: No such file"),
        (TlsFiles(broken, good.key), r"--tls-cert .*broken\.pem"),
        (TlsFiles(good.certificate, other.key), "KEY_VALUES_MISMATCH"),
    ):
        with pytest.raises(InputError, match=reason):
            files.context()


def test_key_with_a_password_is_refused_without_asking(authority: Authority, tmp_path: Path) -> None:
    """A service has no terminal on which it could be asked."""
    from cryptography.hazmat.primitives import serialization

    good = authority.files("a.example")
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.TraditionalOpenSSL
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    locked.chmod(0o600)
    with pytest.raises(InputError, match="--tls-key"):
        TlsFiles(good.certificate, locked).context()


@posix
def test_key_that_every_user_may_read_is_refused(authority: Authority) -> None:
    files = authority.files("c.example")
    files.key.chmod(0o604)
    with pytest.raises(InputError, match=r"every user may read it; `chmod 600 "):
        files.context()


@pytest.mark.source
@posix
@pytest.mark.needs("openssl")
def test_certificate_by_the_commands_of_the_guide(project: FarmProject, tmp_path: Path) -> None:
    guide = (ROOT / "docs/how-to/remote.md").read_text(encoding="utf-8")
    (commands,) = [block for block in re.findall(r"```sh\n(.*?)```", guide, re.DOTALL) if "openssl req -x509" in block]
    commands = commands.replace("DNS:farm-1.lab.example,IP:192.0.2.7", "DNS:localhost,IP:127.0.0.1")
    subprocess.run(["/bin/sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    files = TlsFiles(tmp_path / "farm.pem", tmp_path / "farm.key")
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    with http_farm(project.root, control=False, tls=files) as farm, farm.client("", verify=context) as client:
        assert client.get("/health").status_code == 200

"""Certificates for tests, by an authority of their own."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from pipeline.ui.server_certificate import TlsFiles


@dataclass(frozen=True)
class Authority:
    """A private authority, and where its certificate is."""

    folder: Path
    authority: trustme.CA
    certificate: Path

    def files(self, *names: str, expires_at: datetime | None = None) -> TlsFiles:
        """The files of a server with these names or addresses."""
        issued = self.authority.issue_cert(*names, not_after=expires_at)
        certificate, key = self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key"
        certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        key.chmod(0o600)
        return TlsFiles(certificate, key)

    def expired_files(self, *names: str) -> TlsFiles:
        """The files of a server whose certificate was valid until yesterday."""
        return self.files(*names, expires_at=datetime.now(UTC) - timedelta(days=1))


def make_authority(folder: Path) -> Authority:
    """A new authority, which nothing trusts."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, path = trustme.CA(), folder / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return Authority(folder, authority, path)

"""From a worker in the configuration to the way to its share."""

from pathlib import Path

from pipeline.config import WorkerTable
from pipeline.edges.smb_session import SmbAccess
from pipeline.secret_reference import fetch_secret


def smb_access(worker: WorkerTable, root: Path) -> SmbAccess:
    """How the share of a worker is reached. Its password is fetched anew for every connection."""
    assert worker.unc is not None
    server, share, folder = worker.unc
    return SmbAccess(
        server=server,
        share=share,
        folder=folder,
        port=worker.port,
        account=worker.account,
        password=lambda: fetch_secret(worker.secret, root),
        encryption=worker.encryption,
        dialect_min=worker.dialect,
    )

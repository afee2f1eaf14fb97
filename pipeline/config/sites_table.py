"""The table of sites in `pipeline.toml`, `[sites]`. Pure."""

import re
from typing import Annotated

from msgspec import Meta

from pipeline.config.machine_tables import ConfigTable

_CLUSTER = re.compile(r"dask(\+tls)?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", re.ASCII)

# Texts with a form. The checks below report it in words; `pipeline schema` tells editors.
_Cluster = Annotated[str, Meta(extra_json_schema={"pattern": f"^{_CLUSTER.pattern}$"})]
_Folder = Annotated[str, Meta(extra_json_schema={"pattern": r"^(|[/~\\].*|[A-Za-z]:.*)$"})]


class SitesTable(ConfigTable, frozen=True, kw_only=True):
    """`[sites]`: a Dask cluster, each of whose workers keeps shares on its own disk and runs agents."""

    #: its scheduler: `dask://HOST:PORT`, or `dask+tls://HOST:PORT` with the certificates of Dask's configuration
    cluster: _Cluster
    #: agents on each site; unset: as many as the Dask worker has threads
    agents_per_site: Annotated[int, Meta(ge=1, le=512)] | None = None
    #: attempts that a worker holds at least: one runs, the others wait; while games are short, as many as are played
    #: until the host can send more
    queue_depth: Annotated[int, Meta(ge=1, le=64)] = 2
    sites_min: Annotated[int, Meta(ge=1, le=256)] = 1  #: a run begins when so many sites are there
    #: of the sites, on their own computers; empty: in the state folder of the user who runs the Dask worker
    folder: _Folder = ""

    def __post_init__(self) -> None:
        if not _CLUSTER.fullmatch(self.cluster):
            raise ValueError(f"[sites] cluster = {self.cluster!r}: expected dask://HOST:PORT, or dask+tls://HOST:PORT")
        if self.folder and not re.match(r"[/~\\]|[A-Za-z]:", self.folder):
            raise ValueError(f"[sites] folder = {self.folder!r}: expected an absolute path, or one that begins with ~")

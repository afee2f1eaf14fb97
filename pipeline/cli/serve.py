"""The command `serve`: the live page and the metrics of a project, and the interface for programs elsewhere.

Owns: what is served where: beyond loopback the interface is served only with TLS, changes only with `--control`.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import root_option
from pipeline.cli.signals import stopping_on_signals
from pipeline.config import load_config
from pipeline.core.access import AccessScope, TokenRecord, may
from pipeline.errors import ExitCode, InputError
from pipeline.paths import ProjectPaths
from pipeline.secrets import FORMS, fetch_secret
from pipeline.storage.audit_log import AuditLog
from pipeline.storage.token_store import TokenStore
from pipeline.ui.own_names import is_loopback, url_host

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from pipeline.control.project_operations import ProjectOperations
    from pipeline.ui.server_certificate import TlsFiles

_PEM = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to serve."""

    host: str
    port: int
    names: Sequence[str]
    tls: "TlsFiles | None"

    @property
    def url(self) -> str:
        """The address for users."""
        name = self.names[0] if self.names else url_host(self.host)
        return f"{'http' if self.tls is None else 'https'}://{name}:{self.port}/"


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8765, show_default=True)
@click.option("--name", "names", multiple=True, help="A further name of this computer in the URL; may be repeated.")
@click.option(
    "--token",
    default="",
    metavar="REFERENCE",
    help=f"Where the token of the page is read from, to keep it: {FORMS}.",
)
@click.option("--control", is_flag=True, help="Let who has a token change the project: by /v1/, and on the page.")
@click.option("--tls-cert", type=_PEM, metavar="FILE", help="The certificate for HTTPS, with its chain: PEM.")
@click.option("--tls-key", type=_PEM, metavar="FILE", help="Its private key: PEM.")
@root_option
def serve_project(
    host: str,
    port: int,
    names: tuple[str, ...],
    token: str,
    control: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    root: Path,
) -> int:
    """Serve a live page of the farm to a browser, /metrics to Prometheus, and /v1/ to programs.

    On any address other than loopback a token is needed for the page; the printed URL contains it. With --token it is
    that one, on loopback too, and it is not printed. Scrapers send it as `Authorization: Bearer`. It may start before
    the first run.

    Programs send a token of `pipeline token make`. If there is one, they can look on; with --control they can open
    generations, submit genomes, and stop, and the page has controls for users who enter one. Then this process plays,
    as `pipeline watch` does, and no other one may. Beyond loopback --tls-cert and --tls-key are needed for that.

    Ctrl-C and SIGTERM end it; what is played can be opened again. Exit codes: 0 stopped; 2 bad input or configuration;
    3 this host's disk failed; 4 the ledger cannot be used.
    """
    from pipeline.ui.server_certificate import TlsFiles

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key are needed together")
    tls = TlsFiles(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    place = _Place(host, port, names, tls)
    store = TokenStore(ProjectPaths(root))
    is_open = _checked(place, store.read(), control=control)
    _serve(root, place, fetch_secret(token, root), store if is_open else None, control=control)
    return ExitCode.OK


def _checked(place: _Place, tokens: Sequence[TokenRecord], *, control: bool) -> bool:
    """Whether the interface is served. Raises InputError: it cannot be."""
    now = time.time()
    if control and not any(may(token, AccessScope.SUBMIT, now) for token in tokens):
        raise InputError("--control: no token may change anything; run: pipeline token make NAME --scope control")
    is_open = any(may(token, AccessScope.READ, now) for token in tokens)
    if is_open and place.tls is None and not is_loopback(place.host):
        reason = "tokens would travel unencrypted; give --tls-cert and --tls-key, or leave out --host"
        raise InputError(f"--host {place.host}: {reason} and use ssh -L")
    return is_open


def _serve(root: Path, place: _Place, token: str, store: TokenStore | None, *, control: bool) -> None:
    from pipeline.http_api.changing import PREFIX
    from pipeline.ui.connections import WebServer, listen
    from pipeline.ui.server_certificate import ServerCertificate
    from pipeline.ui.web_server import Page, make_app, page_token

    needed = page_token(token, place.host)
    certificate = None if place.tls is None else ServerCertificate(place.tls)
    stopped = threading.Event()
    page = Page(root, has_control=control)
    page.ending = stopped.is_set
    with ExitStack() as opened, stopping_on_signals(stopped.set):
        listener = opened.enter_context(listen(place.host, place.port))
        interface, operations = None, None
        if store is not None:
            operations = opened.enter_context(_operations(root, control=control))
            interface = PREFIX, _interface(root, place, store, operations, stopped)
        app = make_app(root, page, place.host, needed or None, names=place.names, interface=interface)
        click.echo(place.url + (f"?token={needed}" if needed != token else ""))
        if store is not None:
            click.echo(f"{place.url}{PREFIX[1:]}/ for programs with a token{'' if control else ', to look on'}")
        if place.tls is None and not is_loopback(place.host):
            click.echo("not encrypted: only for a network that you trust; better: ssh -L to this computer's loopback")

        def is_ending() -> bool:
            if operations is not None and operations.failure is not None:
                stopped.set()
            return stopped.is_set()

        WebServer(app, certificate, is_ending).run(listener)
        if operations is not None and operations.failure is not None:
            raise operations.failure


def _interface(
    root: Path, place: _Place, store: TokenStore, operations: "ProjectOperations", stopped: threading.Event
) -> "ASGIApp":
    from pipeline.http_api.interface import Interface, InterfaceSettings

    settings = InterfaceSettings(
        host=place.host, names=place.names, genome_bytes_max=load_config(root).generation.genome_bytes_max
    )
    farm = operations if operations.is_controlled else None
    audit = AuditLog(ProjectPaths(root).state)
    return Interface(settings, operations, farm, store, audit, stopped.is_set).app


@contextlib.contextmanager
def _operations(root: Path, *, control: bool) -> Iterator["ProjectOperations"]:
    from pipeline.control.project_operations import ProjectOperations

    operations = ProjectOperations(root)
    try:
        if control:
            operations.open_project()
        yield operations
    finally:
        operations.close()

"""`pipeline mcp`: the MCP server of a project."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from inbox_agent.identity import agent_version
from pipeline.cli.options import root_option
from pipeline.cli.signals import stopping_on_signals
from pipeline.control.project_operations import ProjectOperations
from pipeline.errors import ExitCode, InputError, needs_extra
from pipeline.secrets import FORMS, fetch_secret
from pipeline.ui.own_names import is_loopback

_TOKEN = "env:PIPELINE_TOKEN"  # noqa: S105  where the token is read from


@click.command("mcp")
@click.option("--allow-control", is_flag=True, help="Also open, submit to, close, stop and reopen generations.")
@click.option("--http", "over_http", is_flag=True, help="Serve clients over HTTP, not one over standard input.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: a loopback address.")
@click.option("--port", type=click.IntRange(1, 65535), default=8767, show_default=True, help="With --http.")
@click.option(
    "--token",
    default=_TOKEN,
    show_default=True,
    metavar="REFERENCE",
    help=f"With --http: where the clients' token is read from: {FORMS}.",
)
@root_option
def serve_mcp(allow_control: bool, over_http: bool, host: str, port: int, token: str, root: Path) -> int:
    """Answer an assistant's questions about the farm, by the Model Context Protocol.

    A client starts this command and talks to it over standard input and output; it ends when the client
    closes them. Reads only. With --allow-control this command plays the generations that the assistant
    opens, and no other command may play in this project meanwhile.
    """
    with needs_extra("mcp"):
        from pipeline.mcp_server.http_transport import HttpServing
        from pipeline.mcp_server.server import make_server
        from pipeline.mcp_server.stdio_transport import StdioServing
    if over_http:
        _refuse_others(host)
    secret = fetch_secret(token, root) if over_http else ""
    with _opened(root, allow_control) as operations:
        server = make_server(operations, operations if allow_control else None, agent_version())
        serving = HttpServing(server, host, port, secret) if over_http else StdioServing(server)
        if isinstance(serving, HttpServing):
            click.echo(serving.url)
        with stopping_on_signals(serving.stop):
            serving.run()
    return ExitCode.OK


@contextmanager
def _opened(root: Path, allow_control: bool) -> Iterator[ProjectOperations]:
    with contextlib.closing(ProjectOperations(root)) as operations:
        if allow_control:
            operations.open_project()
        yield operations


def _refuse_others(host: str) -> None:
    """The token would go over the network as it is."""
    if not is_loopback(host):
        raise InputError(
            f"--host {host}: only a loopback address, as the connection is not encrypted; from another computer "
            "connect by `ssh -L`"
        )

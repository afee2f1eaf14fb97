"""Command group `token`: parses arguments and prints. Not here: what a token may do (`pipeline.core.access`)."""

import time
from pathlib import Path

import click

from pipeline.cli.options import root_option
from pipeline.config import load_config
from pipeline.core.access import AccessScope, TokenRecord, token_state
from pipeline.errors import ExitCode
from pipeline.paths import ProjectPaths
from pipeline.storage.token_store import TokenStore
from pipeline.views.text_table import format_table

_DAY_S = 86400


@click.group("token")
def token_commands() -> None:
    """Make and revoke tokens, by which programs elsewhere use this project over HTTP.

    `pipeline serve` answers under /v1/ to requests with `Authorization: Bearer TOKEN`.
    """


@token_commands.command("make")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice([str(scope) for scope in AccessScope]),
    required=True,
    help="read: look on. submit: also open generations and submit genomes. control: also stop and open again.",
)
@click.option("--days", type=click.IntRange(1, 3650), help="How long it can be used (default: until it is revoked).")
@root_option
def make_token(name: str, scope: str, days: int | None, root: Path) -> int:
    """Make a token, and print it. It is printed once: only its SHA-256 is stored.

    Exit codes: 0 made; 2 the name cannot be used or is in use, or this is no project.
    """
    load_config(root)
    lasts_s = None if days is None else float(days * _DAY_S)
    click.echo(TokenStore(ProjectPaths(root)).make(name, AccessScope(scope), time.time(), lasts_s))
    return ExitCode.OK


@token_commands.command("list")
@root_option
def list_tokens(root: Path) -> int:
    """List the tokens: names, scopes, and until when each can be used."""
    load_config(root)
    tokens, now = TokenStore(ProjectPaths(root)).read(), time.time()
    rows = [
        (token.name, str(token.scope), _date(token.made_at), _until(token), token_state(token, now)) for token in tokens
    ]
    click.echo(format_table([("name", "scope", "made", "until", "state"), *rows]) if rows else "there are no tokens")
    return ExitCode.OK


@token_commands.command("revoke")
@click.argument("name")
@root_option
def revoke_token(name: str, root: Path) -> int:
    """Revoke a token. Servers that run refuse it from their next request on.

    Exit codes: 0 revoked; 2 there is no such token.
    """
    load_config(root)
    TokenStore(ProjectPaths(root)).revoke(name)
    click.echo(f"{name} is revoked")
    return ExitCode.OK


def _until(token: TokenRecord) -> str:
    return "-" if token.expires_at is None else _date(token.expires_at)


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))

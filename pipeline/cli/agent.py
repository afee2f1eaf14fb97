"""Command group `agent`: parses arguments and prints. Not here: the bundle (`pipeline.bundle`)."""

from pathlib import Path

import click

from pipeline.bundle.bundle import make_bundle, verify_bundle
from pipeline.errors import ExitCode


@click.group("agent")
def agent_commands() -> None:
    """Install the agent in machines."""


@agent_commands.command("bundle")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to make.")
@click.option("--python", default="3.12", show_default=True, help="The version of the machine's Python.")
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    default=("win_amd64",),
    show_default=True,
    help="The platform, as pip names it.",
)
@click.option("--embed", type=click.Path(path_type=Path, dir_okay=False), help="The embeddable Python, a zip.")
@click.option("--with", "extra", multiple=True, metavar="REQUIREMENT", help="What the evaluator needs besides.")
@click.option(
    "--sign",
    "key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Sign it with this private key of OpenSSH.",
)
def bundle(
    out: Path,
    python: str,
    platforms: tuple[str, ...],
    embed: Path | None,
    extra: tuple[str, ...],
    key: Path | None,
) -> int:
    """Make a folder that installs the agent in a machine without a network.

    This computer needs a network: the wheels come from pip's index. Those of the agent must have the
    digests that this program has locked. Run install-agent.ps1 of the folder in the machine.
    Exit codes: 0 made; 2 bad input, or something could not be had.
    """
    for name in make_bundle(out, python, platforms, embed=embed, extra=extra, key=key):
        click.echo(name)
    click.echo(f"now: copy {out} into the machine and run install-agent.ps1 there (docs/how-to/template-vm.md)")
    return ExitCode.OK


@agent_commands.command("verify")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--allowed-signers",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The file of ssh-keygen with the keys that may sign, for the principal `bundle`.",
)
def verify(folder: Path, allowed_signers: Path) -> int:
    """Check the signature and the files of a bundle, without running anything of it.

    Exit codes: 0 the bundle is as it was signed; 2 it is not.
    """
    verify_bundle(folder, allowed_signers)
    click.echo(f"{folder}: as it was signed")
    return ExitCode.OK

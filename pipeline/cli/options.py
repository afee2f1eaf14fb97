"""Options that several commands share."""

from pathlib import Path

import click

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The project folder, with pipeline.toml, genomes/ and results/ (default: here).",
)

gen_option = click.option("--gen", "gen", default=None, help="The generation (default: the one played last).")

"""What the commands that look on print of a project elsewhere, with `--remote`."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import RemotePlace
from pipeline.errors import needs_extra
from pipeline.remote.texts import remote_progress_text, remote_rows, remote_status_text

if TYPE_CHECKING:
    from pipeline.remote.project import RemoteProject


def show_remote_status(place: RemotePlace, number: int | None) -> None:
    """As `pipeline status`."""
    with _looking_on(place) as project:
        generation = project.generation(number)
        click.echo(remote_status_text(project.status(), generation))


def show_remote_progress(place: RemotePlace, number: int | None) -> None:
    """As `pipeline top --once`."""
    with _looking_on(place) as project:
        click.echo(remote_progress_text(project.generation(number)))


def explain_remote(place: RemotePlace, what: str, number: int | None) -> None:
    """As `pipeline explain`."""
    with _looking_on(place) as project:
        click.echo(project.explain(what, number))


def rows_of_remote(
    place: RemotePlace, number: int | None, by: str, *, all_generations: bool, reverse: bool
) -> list[dict[str, Any]]:
    """The rows of `pipeline results`."""
    with _looking_on(place) as project:
        chosen = list(project.generations()) if all_generations else [project.generation(number)]
        return remote_rows([(one, list(project.results(one.number))) for one in chosen], by, reverse=reverse)


def _looking_on(place: RemotePlace) -> "AbstractContextManager[RemoteProject]":
    with needs_extra("remote"):
        from pipeline.remote.project import look_on  # imports an HTTP library
    return look_on(place.url, place.token, place.ca_file)

"""The page of the commands: the help of each, as the terminal shows it."""

import functools
from collections.abc import Iterator

import click

from inbox_agent.arguments import agent_parser, doctor_parser
from inbox_agent.conformance.__main__ import kit_parser
from pipeline.cli.main import commands

_OPENING = """\
# Commands

Written by `make reference` from the code: what `--help` shows. All messages for people go to standard error, results to
standard output.
"""
WIDTH = 100


def command_line() -> str:
    """The page, in Markdown."""
    parts = [_OPENING]
    parts += [f"## `{name}`\n\n```text\n{text}\n```\n" for name, text in _helps("pipeline", commands, None)]
    for name, parser in (
        ("inbox-agent", agent_parser()),
        ("inbox-agent doctor", doctor_parser()),
        ("python -m inbox_agent.conformance", kit_parser()),
    ):
        parser.formatter_class = functools.partial(parser.formatter_class, width=WIDTH)  # type: ignore[assignment]
        parts.append(f"## `{name}`\n\n```text\n{parser.format_help().strip()}\n```\n")
    return "\n".join(parts)


def _helps(name: str, command: click.Command, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    context = click.Context(
        command,
        parent,
        info_name=name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield context.command_path, command.get_help(context).strip()
    for child in getattr(command, "commands", {}).values():
        yield from _helps(child.name, child, context)

"""The MCP SDK's client on `pipeline mcp`, which runs in its own process."""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from tests.harness.samba import free_port
from tests.harness.waiting import PATIENCE_S

Story = Callable[[Client], Awaitable[None]]
TOKEN = "a-token-of-the-tests"


#: The first message of a client.
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def command(root: Path, *options: str) -> list[str]:
    """The command that a client starts."""
    return [sys.executable, "-m", "pipeline", "mcp", "--root", str(root), *options]


def ask(root: Path, story: Story, *options: str, mode: str = "auto") -> None:
    """Plays what a client does that starts the server itself."""
    program, *arguments = command(root, *options)
    server = StdioServerParameters(command=program, args=arguments, env=dict(os.environ))

    async def connected() -> None:
        with anyio.fail_after(2 * PATIENCE_S):
            async with Client(server, mode=mode) as client:
                await story(client)

    anyio.run(connected)


def ask_over_http(url: str, story: Story, token: str = TOKEN, mode: str = "auto") -> None:
    """Plays what a client does with a server that runs."""

    async def connected() -> None:
        with anyio.fail_after(2 * PATIENCE_S):
            async with (
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http,
                Client(streamable_http_client(url, http_client=http), mode=mode) as client,
            ):
                await story(client)

    anyio.run(connected)


@contextmanager
def served_over_http(root: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The URL that the command printed, and its process."""
    words = command(root, "--http", "--port", str(free_port()), *options)
    environment = {**os.environ, "PIPELINE_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().decode().strip(), server
    finally:
        server.kill()
        server.communicate()


async def result_of(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool answers."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    return dict(result.structured_content["result"])


async def refusal_of(client: Client, tool: str, **arguments: Any) -> str:
    """The error of a call, which is one printable line."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert text_of(result).isprintable()
    return text_of(result)


def text_of(result: CallToolResult) -> str:
    """The text of an answer."""
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text

"""The server: what clients of MCP ask becomes a call of an operation in a thread, and its result or error an answer.

Owns: that errors of operations are answers of a tool, in one line, and not errors of the protocol; how many operations
run at a time. Not here: how clients connect (`stdio_transport`, `http_transport`).
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import mcp_types as types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from pipeline.control.operations import FarmOperations, ReadOperations
from pipeline.errors import InputError, PipelineError
from pipeline.mcp_server import prompts
from pipeline.mcp_server.answers import NOTE, answer, error_text, shown
from pipeline.mcp_server.arguments import WaitArguments
from pipeline.mcp_server.completions import completion
from pipeline.mcp_server.resources import Resources
from pipeline.mcp_server.tools import OperationTool, control_tools, read_tools

OPERATIONS_AT_ONCE_MAX = 8
WAITS_AT_ONCE_MAX = 4  #: besides those, so that a call that waits delays no other one
_SLICE_S = 0.5  #: a thread waits no longer, so that a call that was cancelled, or a stop, waits no longer for it
NOTE_KEY = "genome-pipeline/note"  #: in `_meta` of a resource
INSTRUCTIONS = f"""\
A farm plays games to evaluate genomes; every genome of a generation is counted exactly once. Begin with project_status.
Without a generation's number the tools take the one that was played last. To say why a genome has no fitness, or why a
worker does not play, use `explain`. {NOTE}
"""

T = TypeVar("T")
Context = ServerRequestContext[Any, Any]


class ProjectServer:
    """The handlers of one project's server."""

    def __init__(self, operations: ReadOperations, control: FarmOperations | None) -> None:
        self._operations = operations
        self._resources = Resources(operations)
        tools = [*read_tools(operations), *(control_tools(control) if control is not None else ())]
        self._tools = {tool.name: tool for tool in tools}
        self._operating = anyio.CapacityLimiter(OPERATIONS_AT_ONCE_MAX)
        self._waiting = anyio.CapacityLimiter(WAITS_AT_ONCE_MAX)

    async def _in_thread(self, work: Callable[..., T], *given: Any, may_wait: bool = False) -> T:
        """Not abandoned if the request is cancelled: a change is done, or it is not begun."""
        limiter = self._waiting if may_wait else self._operating
        return await anyio.to_thread.run_sync(functools.partial(work, *given), limiter=limiter)

    async def _asked(self, work: Callable[..., T], *given: Any) -> T:
        """The same for what has no answer of its own for an error."""
        try:
            return await self._in_thread(work, *given)
        except InputError as error:
            raise MCPError(types.INVALID_PARAMS, error_text(error)) from error
        except PipelineError as error:
            raise MCPError(types.INTERNAL_ERROR, error_text(error)) from error

    # ------------------------------------------------------------------------------------------------------------ tools

    async def list_tools(
        self, _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """The tools, always in the same order."""
        return types.ListToolsResult(tools=[tool.tool for tool in self._tools.values()])

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Calls a tool. What cannot be done is said in the result, so that an assistant reads it."""
        tool = self._tools.get(params.name)
        if tool is None:
            return _failed(
                f"{shown(params.name, 100)}: there is no such tool here; tools that change something exist only if "
                "the server was started with --allow-control"
            )
        try:
            given = msgspec.convert(params.arguments or {}, tool.arguments)
        except msgspec.ValidationError as error:
            return _failed(f"{tool.name}: {error_text(error)}; correct the arguments and call it again")
        try:
            values, text = answer(await self._run(context, tool, given))
        except PipelineError as error:
            return _failed(f"{tool.name}: {error_text(error)}")
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=values)

    async def _run(self, context: Context, tool: OperationTool, given: Any) -> Any:
        """The result of a call. One that waits says how long it has waited, if its client asks for that."""
        if not isinstance(given, WaitArguments):
            return await self._in_thread(tool.run, given)
        begun, wait_s = anyio.current_time(), given.wait_s
        until = begun + wait_s
        while True:
            left_s = max(0.0, until - anyio.current_time())
            slice_s = min(left_s, _SLICE_S)
            asked = msgspec.structs.replace(given, wait_s=slice_s)
            page: Any = await self._in_thread(tool.run, asked, may_wait=True)
            if page.items or left_s <= _SLICE_S:
                return page
            given = msgspec.structs.replace(given, after=page.next)  # what was looked at had nothing for it
            waited_s = anyio.current_time() - begun
            await context.session.report_progress(waited_s, wait_s, f"nothing new for {waited_s:.0f} s")

    # -------------------------------------------------------------------------------------------------------- resources

    async def list_resources(
        self, _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """The project and the results of its last generations."""
        return types.ListResourcesResult(resources=await self._asked(self._resources.listed))

    async def list_templates(
        self, _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        """The URIs of every generation and genome."""
        return types.ListResourceTemplatesResult(resource_templates=self._resources.templates())

    async def read_resource(
        self, _context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """A resource as text, marked as data from games."""
        mime_type, text = await self._asked(self._resources.read, str(params.uri))
        contents = types.TextResourceContents(uri=params.uri, mime_type=mime_type, text=text, _meta={NOTE_KEY: NOTE})
        return types.ReadResourceResult(contents=[contents])

    # ---------------------------------------------------------------------------------------------------------- prompts

    async def list_prompts(
        self, _context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        """The common questions."""
        return types.ListPromptsResult(prompts=prompts.listed())

    async def get_prompt(self, _context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        """A question with its arguments."""
        return await self._asked(prompts.prompt_text, params.name, params.arguments or {})

    async def complete(self, _context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        """Generations and genomes whose names begin so."""
        known = (params.context and params.context.arguments) or {}
        argument = params.argument
        found = await self._asked(completion, self._operations, argument.name, argument.value, known)
        return types.CompleteResult(completion=found)


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)


def make_server(operations: ReadOperations, control: FarmOperations | None, version: str) -> Server[Any]:
    """A server of a project. Without `control` it has no tool that changes anything."""
    handlers = ProjectServer(operations, control)
    return Server(
        "genome-pipeline",
        version=version,
        title="Genome pipeline",
        description="Watch a farm of game evaluations" + (", and steer it" if control is not None else ""),
        instructions=INSTRUCTIONS,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
        on_list_prompts=handlers.list_prompts,
        on_get_prompt=handlers.get_prompt,
        on_completion=handlers.complete,
    )

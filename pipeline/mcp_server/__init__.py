"""The MCP server: a project's operations as tools, resources and prompts for an assistant. Needs the extra `mcp`."""

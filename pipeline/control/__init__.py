"""Operations on a project for programs elsewhere: what the HTTP interface and the MCP server offer."""

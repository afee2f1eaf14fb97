"""The HTTP interface of a project, version 1: operations, tokens, limits, and their description as OpenAPI."""

"""The layout of a share and its file operations, as in share_layout.md. Imported by host and agent.

Owns: names, records, limits and atomic publication. Imports only `inbox_agent.system`.
"""

"""The layout of a share and its files, as share_layout.md describes them. Host and agent both import this package.

It decides names, records, limits and how a file appears whole. It imports nothing else of ours but
`inbox_agent.system`.
"""

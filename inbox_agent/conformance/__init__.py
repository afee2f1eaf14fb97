"""The conformance kit: plays the host against any agent command and checks what share_layout.md asks of an agent.

Owns: the checks, the host's side that they need, and the records with their verdicts.
Not here: the agent itself, of which nothing but the protocol is imported.
"""

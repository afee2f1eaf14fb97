"""Bundle: a folder that installs the agent in a machine without a network."""

"""The folder that installs the agent in a machine without a network: wheels, installers and a manifest."""

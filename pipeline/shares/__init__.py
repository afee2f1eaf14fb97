"""The host's side of a share: requests, the threads that execute them, the SMB client.

Owns: the order in which the files of a request are read and written. Not here: what is requested (`pipeline.core`).
"""

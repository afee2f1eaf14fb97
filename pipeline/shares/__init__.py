"""The host's side of a share: requests to it, the threads that carry them out, the SMB client.

It decides in which order the files of a request are read and written. What is requested is decided in `pipeline.core`.
"""

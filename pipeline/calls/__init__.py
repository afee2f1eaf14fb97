"""Calls of Python functions as genomes: `with open_executor() as executor: executor.map(f, xs)`.

A call is one genome of an open generation; its value comes back as JSON and NumPy arrays, never as a pickle.
"""

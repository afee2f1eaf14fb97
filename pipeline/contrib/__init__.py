"""Bridges to single libraries that need more than an executor. They do not import the library; `dask` does."""

"""Reads a project without changing it: history, lookup of names, page data, verification, results as folders."""

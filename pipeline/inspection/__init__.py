"""Reads a project from outside and changes nothing: history, lookup of names, page data, verification."""

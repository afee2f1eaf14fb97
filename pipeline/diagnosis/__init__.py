"""Checks shares, machines and the template for faults that a user can fix, and says how."""

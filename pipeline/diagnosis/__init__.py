"""Checks of shares, machines and the template for faults that a user can fix, with advice."""

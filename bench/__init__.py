"""Measures the farm against bare files and against other task farms, on one machine in one run: `python -m bench`."""

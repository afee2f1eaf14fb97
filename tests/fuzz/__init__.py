"""Fuzz targets: every decoder of bytes from outside, one module each: `make fuzz`.

`test_fuzz_targets.py` runs them without a fuzzer.
"""

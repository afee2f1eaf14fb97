"""The test suite on Windows CPython under Wine, and the tests that are left out (`python -m tests.windows`)."""

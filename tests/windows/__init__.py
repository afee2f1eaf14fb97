"""Official Windows CPython under Wine: the bed, what is left out, and the suite on it (`python -m tests.windows`)."""

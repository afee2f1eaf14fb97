"""Programs of users, which `test_public_types.py` checks with mypy and pyright against the installed package.

None is run. `assert_type` says what a call gives; a line with two ignores has an error that both must find.
"""

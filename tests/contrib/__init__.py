"""Libraries of others, as they are installed by users; `make test-contrib` runs these tests."""

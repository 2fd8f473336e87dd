"""The service's speed beside a bare loop that sends the same texts: `python -m tests.bench`."""

"""The limit of a wait whose end a test expects."""

# Longer than any machine needs, also with eight busy loops beside it: a wait that ends by it has failed.
LIMIT_S = 180.0

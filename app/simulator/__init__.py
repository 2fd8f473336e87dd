"""A simulated site to try the service on without Nutanix: clusters, CVMs and guests, behind real SSH servers.

Only the command line and the tests import this package, and it imports nothing of the service.
"""

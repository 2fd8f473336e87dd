"""The numbers of all advisory locks of this service; each number has one purpose.

A cluster's lock has two halves; the second is the hash of the cluster's name.
"""

CLUSTER_SLOTS = 4_771_001
"""For each cluster: acquiring or freeing a slot."""
SERVICE_PAUSE = 4_771_002
"""The pause of the whole service: shared by jobs that begin a change, exclusive for a pause."""
CLUSTER_WARNINGS = 4_771_003
"""For each cluster: warning of certificates that expire."""
CLUSTER_AUTO_RENEWAL = 4_771_004
"""For each cluster: starting automatic renewals."""

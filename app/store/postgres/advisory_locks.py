"""The numbers of the advisory locks of this service, all of them: one that is used twice would make strangers wait.

Those of clusters have two halves; the second is the hash of the cluster's name.
"""

CLUSTER_SLOTS = 4_771_001
"""For each cluster: whoever takes or frees a slot there."""
SERVICE_PAUSE = 4_771_002
"""The pause of the whole service: shared by those who begin a change, whole for those who pause."""
CLUSTER_WARNINGS = 4_771_003
"""For each cluster: whoever tells that its certificates end."""
CLUSTER_AUTO_RENEWAL = 4_771_004
"""For each cluster: whoever starts automatic renewals there."""

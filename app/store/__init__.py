"""The only place that knows SQL: jobs, steps, VMs, clusters, keys and the queue, all in one PostgreSQL."""

"""The background work: renewals, scans, pickup polls, warnings and webhook deliveries."""

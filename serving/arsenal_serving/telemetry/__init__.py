"""What a running server says of itself: metrics, logs, the audit log and the request log."""

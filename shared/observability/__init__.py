"""What a process reports about itself: logs, health and metrics."""

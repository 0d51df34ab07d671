"""Consuming a stream: read worker, consumer, processor in this order."""

"""What the summarizer does about each event it consumes, one module per event."""

"""Events over Redis Streams: publishing, consuming, retrying, answering."""

"""Events over Redis Streams: publishing, consuming, retrying, answering.

Whatever speaks to Redis here raises `UnavailableError` when Redis is down.
"""

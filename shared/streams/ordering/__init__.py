"""Streams that keep the order of the events of each key, however many processes share them.

`layout` says which partition a key belongs to, `ownership` which process reads a partition,
`consumer` applies what is read, and `held` keeps back the keys that failed for now.
"""

"""Streams that keep the order of the events of each key, however many processes share them.

`layout` says which partition a key belongs to, `ownership` which process reads a partition,
`consumer` reads and `processor` has it applied, holding back the keys that fail for now.
"""

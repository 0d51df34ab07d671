"""`ops exporter`: the one process that exports what all processes share, read every 15 s.

The others export themselves: of what is shared each would say the same, and one that is scaled to
zero would silence its own alarm.
"""

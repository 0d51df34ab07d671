"""Consuming a stream. Read `worker`, `consumer`, `processor`, in this order.

The worker joins a group, starts what runs and stops it. The consumer reads entries while it has
free places, keeps them for as long as they take, and hands the rest back. The processor calls
the handler and decides by what it raises: `settlement` ends an entry, `retry` brings it back
later, and `health` has what waits out an outage. Beside them `group` has the commands on the
group, `reclaimer` takes over from dead consumers, `housekeeping` trims, and `subscription` is
what a service passes in.
"""

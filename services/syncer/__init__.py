"""The syncer: the only writer of leads, and their source on a schedule."""

"""Every promise of docs/reliability.md, kept while things break, and broken on purpose.

A module per promise. Its `test_control_...` switch on the defect that the promise guards
against, and check that the very same check then fails: one that cannot fail shows nothing.
"""

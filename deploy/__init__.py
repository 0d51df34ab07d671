"""What runs the system elsewhere, and what shows of which parts it is made."""

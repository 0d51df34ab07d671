"""What operators do to the system: the same for the command line and for the admin routes."""

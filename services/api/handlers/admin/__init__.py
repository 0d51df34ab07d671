"""What operators may do over HTTP, with the operator's key."""

"""What `ops doctor` and the API find: facts that servers tell, and what is to be said of them."""

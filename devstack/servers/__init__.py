"""PostgreSQL and Valkey as child processes, for machines that have neither."""

"""How large a batch may be: by bytes, by time, and by records."""

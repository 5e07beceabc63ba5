"""The daemon lived with for days and for years, against a terminal on the wire that misbehaves."""

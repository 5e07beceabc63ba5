"""Pure rules: the same arguments give the same result. No file, socket or clock is reached from here."""

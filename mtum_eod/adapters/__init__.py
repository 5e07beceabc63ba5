"""The outside world behind the ports: one module or folder for each thing."""

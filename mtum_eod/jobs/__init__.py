"""What is done: gather, decide, record, act. A job knows ports and core, never a vendor."""

"""Interactive Brokers: orders, executions, positions, cash and bars through IB Gateway or TWS."""

"""The plan of a run: its steps, its table, its price."""

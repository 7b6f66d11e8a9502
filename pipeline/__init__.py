"""What a person runs: experiment file, commands, results and figures."""

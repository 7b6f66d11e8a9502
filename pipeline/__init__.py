"""The pipeline: experiment file, plan, commands, results and figures."""

"""Tables of a TOML file against the schema of their settings."""

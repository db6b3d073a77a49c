"""The version of the agent, as a node's page shows it. pyproject.toml says the same (a test compares them)."""

VERSION = "0.1.0"

"""A whole cluster on one machine: `make cluster`, and what the tests with "docker_cluster" in their names run on."""

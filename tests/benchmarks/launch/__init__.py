"""`make bench-launch`: click to first executed cell, round trips and throughput, beside JupyterHub, in one run."""

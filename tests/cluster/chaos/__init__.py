"""`make chaos`: many short jobs on a cluster whose parts are killed, cut off and lied to, and what the ledger says then."""

"""One self-contained page about a run, from whatever stages are there."""

"""Hand-written kernels for what takes most memory traffic, and fused norms and rotary embeddings."""

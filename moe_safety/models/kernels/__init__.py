"""Compiled and fused code for what takes most memory traffic: experts, norms, rotary embeddings."""

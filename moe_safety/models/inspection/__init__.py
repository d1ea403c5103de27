"""What `moe-safety inspect` says: sizes of a model, and the memory that its stages take."""

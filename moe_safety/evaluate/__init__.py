"""What a model does on held-out goals, in figures."""

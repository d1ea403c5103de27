"""The arms that ship with the program: a file for each, or for a small family."""

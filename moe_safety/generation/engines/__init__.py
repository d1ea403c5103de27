"""Engines that ship with the program, a file each."""

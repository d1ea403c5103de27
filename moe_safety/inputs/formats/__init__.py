"""The formats, a file each: how its rows are recognised and read, and its declaration."""

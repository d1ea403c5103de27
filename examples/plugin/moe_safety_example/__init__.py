"""One of each thing that another package can add to moe-safety, a file each."""

"""The report of a run: one HTML page that opens from a disk, without a network and without a script."""

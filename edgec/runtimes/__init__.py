"""One runtime a file, all behind one protocol."""

"""One runtime per file, all behind one protocol."""

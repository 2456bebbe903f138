"""One file per runtime that takes its own files."""

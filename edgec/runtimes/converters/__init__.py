"""One file a runtime that takes files of its own."""

"""What an artifact says of its use: one typed contract per task, and how it is read from the artifact's JSON."""

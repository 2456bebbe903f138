"""What all rooms speak of: errors, events, files, a network at rest."""

"""What a network is for: data, losses, metrics, decoding, pictures."""

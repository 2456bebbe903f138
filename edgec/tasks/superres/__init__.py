"""Super-resolution: pairs of images, patches, metrics, adaptive cropping, pictures."""

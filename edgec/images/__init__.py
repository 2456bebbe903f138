"""Image files: reading, inputs of a command, MATLAB's bicubic."""

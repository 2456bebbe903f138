"""Network definitions: torch only, one family a file. Each has `build(**args) -> nn.Module`."""

"""The stages of the pipeline: one file, one function `(config, network, env) -> network` each."""

"""One run: the loop over the stages, the store of results, the run's folder, gates."""

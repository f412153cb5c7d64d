"""Training of one configuration with one seed: the loop, the optimizers and the result type."""

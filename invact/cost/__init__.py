"""The cost of a Keras model: MACs, parameters and memory, counted from the built model."""

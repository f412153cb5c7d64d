"""Cost: MACs, parameters and memory of any Keras model, counted from the built model."""

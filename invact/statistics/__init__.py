"""The claim's statistics: pure functions of plain arrays, and small frozen results; one subject a module.

Accuracies and margins are fractions here (0.003 is 0.3 points). Nothing in this package imports TensorFlow,
Keras or MLflow: numpy and scipy are enough to read it.
"""

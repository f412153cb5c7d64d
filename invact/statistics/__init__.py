"""Statistics of claims and fronts: pure functions that take arrays and return small frozen results.

Accuracies and margins are fractions in this package (0.003 is 0.3 points). It needs numpy and scipy only, and
never imports TensorFlow, Keras or MLflow.
"""

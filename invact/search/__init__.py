"""Search: drivers propose configurations; the gate rejects those over a budget before training."""

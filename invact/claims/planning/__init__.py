"""Planning of a claim: the design that is fixed before the confirmation, and its registration."""

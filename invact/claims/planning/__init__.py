"""Planning of a claim: what is fixed before the confirmation, and its registration."""

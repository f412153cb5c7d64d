"""Claims: from a file to a verdict on "fewer filters at equal accuracy", by a protocol fixed in advance."""

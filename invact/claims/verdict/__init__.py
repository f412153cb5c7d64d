"""The verdict of a claim: its numbers, its reasons as sentences, its tables and its files."""

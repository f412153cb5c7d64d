"""The verdict of a claim: its numbers, its reasons in words, and its tables and files."""

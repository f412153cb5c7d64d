"""The command `invact`: one module for each command; each calls library functions and prints the result."""

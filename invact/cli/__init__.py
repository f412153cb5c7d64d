"""The command `invact`: one module for each command, thin over the functions of the same names."""

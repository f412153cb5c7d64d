"""Search spaces: parameters, their allowed values, and the TOML files that declare them."""

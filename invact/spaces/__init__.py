"""Search spaces: parameters, the values they may take, and the TOML files that declare them."""

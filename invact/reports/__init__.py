"""Reports: what people look at, as tables, pictures and files."""

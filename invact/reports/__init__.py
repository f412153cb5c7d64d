"""Reports for people: tables, figures and files."""

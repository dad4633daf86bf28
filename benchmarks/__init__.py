"""flowlib's own measurements; see README.md."""

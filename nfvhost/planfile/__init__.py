"""Documents: YAML in and out, checked as a whole."""

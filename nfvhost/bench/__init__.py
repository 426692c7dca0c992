"""What a path forwards: searched, measured, compared."""

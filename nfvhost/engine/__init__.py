"""Plan -> machine: diff, apply, verify, roll back."""

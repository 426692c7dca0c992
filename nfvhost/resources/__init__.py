"""What nfvhost changes: each reads its state, tells the difference to the plan, changes and puts back."""

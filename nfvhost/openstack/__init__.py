"""What is made on an OpenStack: its library is imported here alone, and only by verbs that talk to a cloud."""

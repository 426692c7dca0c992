"""Pictures of hosts and plans: text, SVG."""

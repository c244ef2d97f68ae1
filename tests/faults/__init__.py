"""What must go well when something is refused, half made, or collected: README.md."""

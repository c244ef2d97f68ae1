"""What an operation costs in instructions, held against what it cost before: see __main__.py."""

"""What is measured, and how surely."""

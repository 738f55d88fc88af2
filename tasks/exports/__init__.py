"""What other tools read: data in, their formats out."""

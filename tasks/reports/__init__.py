"""What a person looks at: data in, one file out."""

"""How each medium is checked and decoded; one file a medium."""

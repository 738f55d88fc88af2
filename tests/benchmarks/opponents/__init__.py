"""What people would use in place of `modalign ingest`, each a script of its own: photos and captions → tables.

`python -m tests.benchmarks.opponents.NAME COLLECTION OUT MODELS` reads the photos and `metadata.jsonl` of a folder,
leaves its tables under OUT and prints JSON: `seconds`, from the start of the process to tables that can be searched,
and `parts` of it. Only then are the vectors copied to image.npy and text.npy for the check, in the collection's order.
"""

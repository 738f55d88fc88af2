"""From the embeddings of known pairs to projection heads into one joint space. Arrays in, arrays out."""

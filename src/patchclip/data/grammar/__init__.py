"""The small English grammar behind hard negatives: words, phrases, and the seven kinds of mistakes."""

"""What others have made already, in place of making it: embeddings with their scores, PCA and centroids."""


class ImportedError(ValueError):
    """What is to be imported cannot be used; the message says why in a sentence."""

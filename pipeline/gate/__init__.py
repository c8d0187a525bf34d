"""The text gate: images in which text is very unlikely, by their CLIP embedding, are not given to the spotter."""


class GateError(RuntimeError):
    """A gate cannot be learnt, read or used; the message says why in a sentence."""

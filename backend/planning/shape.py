"""The sizes of a model, and what follows from them: the number of its weights, and what a pass through it keeps."""

from __future__ import annotations

from backend.interfaces import Options


class Stack(Options):
    """Layers of one kind."""

    layers: int
    hidden: int
    heads: int
    attention: int  # width of the queries: heads times the width of each
    keys: int  # width of the keys, and of the values
    inner: int  # width of the feed-forward part
    gated: bool = False  # it has a third matrix, whose output gates that of the first
    crossed: bool = False  # it reads the states of an encoder too
    biased: int = 0  # weights of a layer that are in no matrix: biases and norms
    # What a pass keeps of each token for the way back, in numbers (see `kept`).
    norms: int = 4  # times the hidden width: 2 for each layer norm, 3 for each RMS norm
    masks: int = 0  # times the hidden width: one for each dropout beside that of the attention
    middle: int = 2  # times the inner width: what the activation function and its dropout keep
    scored: bool = False  # dropout of the attention, which needs the whole table of scores
    normed: bool = False  # norms of queries and keys

    @property
    def key_heads(self) -> int:
        """The number of heads of the keys."""
        return self.keys * self.heads // self.attention

    @property
    def parameters(self) -> int:
        """The weights of all layers."""
        attention = self.hidden * (2 * self.attention + 2 * self.keys) * (2 if self.crossed else 1)
        return self.layers * (attention + (3 if self.gated else 2) * self.hidden * self.inner + self.biased)

    def kept(self, length: int, *, fused: bool) -> int:
        """Return how many numbers a layer keeps of each token of a row for the backward pass.

        Counted as in section 4.1 of Korthikanti et al. 2022, arXiv:2205.05198, for what transformers' layers do.
        `fused`: attention with dropout is one kernel that keeps no table of scores, as on GPUs.
        """
        attention = 2 * self.attention + 2 * self.keys + (2 * (self.attention + self.keys) if self.normed else 0)
        attention += 3 * self.heads * length if self.scored and not fused else self.heads
        times = 2 if self.crossed else 1
        return times * attention + (self.norms + self.masks) * self.hidden + self.middle * self.inner


class Shape(Options):
    """The sizes of a model."""

    model_type: str
    stacks: tuple[Stack, ...]
    vocabulary: int
    width: int  # of the token embeddings
    beside: int  # weights that are in no layer and no token embedding
    tied: bool = True  # the matrix that tells tokens is the one that reads them

    @property
    def embedding(self) -> int:
        """The weights of the token embeddings."""
        return self.vocabulary * self.width

    @property
    def layers(self) -> int:
        """The number of layers of all stacks."""
        return sum(stack.layers for stack in self.stacks)

    @property
    def parameters(self) -> int:
        """The weights of the model without what a task puts on it."""
        return self.embedding + self.beside + sum(stack.parameters for stack in self.stacks)

    def cut(self, size: int) -> Shape:
        """Return the shape of what one of so many processes has that share the matrices of each layer."""
        parts = ("heads", "attention", "keys", "inner")
        cut = [stack.model_copy(update={name: getattr(stack, name) // size for name in parts}) for stack in self.stacks]
        return self.model_copy(update={"stacks": tuple(cut)})

    def shortened(self, layers: int) -> Shape:
        """Return the shape of a model of which so many layers are kept."""
        return self.model_copy(
            update={"stacks": tuple(stack.model_copy(update={"layers": layers}) for stack in self.stacks)}
        )

"""The sizes of a model, and what follows from them: the number of its weights, and what a pass through it keeps."""

from __future__ import annotations

from typing import NamedTuple

from backend.interfaces import Options

FULL = 4  # bytes of a number in full precision
TANH = 5  # what the tanh form of GELU keeps in numbers, and how many halves more of them autocast makes full
TANH_IN_FULL = 3


class Numbers(NamedTuple):
    """The numbers that go through a model on a GPU."""

    low: int  # bytes of one
    cast: bool  # by autocast: weights and what layers add to stay in full precision
    still: bool = False  # nearly no weights learn, so what they are multiplied with need not be kept

    @property
    def stream(self) -> int:
        """The bytes of a number that goes from layer to layer."""
        return FULL if self.cast else self.low


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

    def kept(self, length: int) -> int:
        """Return how many numbers a layer keeps of each token of a row for the backward pass on a CPU.

        Counted as in section 4.1 of Korthikanti et al. 2022, arXiv:2205.05198, for what transformers' layers do.
        """
        scores = 3 * self.heads * length if self.scored else self.heads
        attention = self._attentions * (self._through_attention + scores)
        return attention + (self.norms + self.masks) * self.hidden + self.middle * self.inner

    def kept_on_gpu(self, length: int, numbers: Numbers) -> float:
        """Return how many bytes a layer keeps of each token of a row on a GPU.

        There attention is one kernel that keeps no table of scores, but for fewer keys than queries in fp32, and the
        mask of a dropout takes a byte. Norms keep their inputs in fp32: RMS norms, which are many operations, always;
        with autocast also what else comes in fp32, and each linear layer keeps its input in half precision.
        """
        scores = self.heads * FULL + (self.heads * length * FULL if numbers.low == FULL and self._is_grouped else 0)
        attention = self._attentions * (self._through_attention * numbers.low + scores)
        steps = self.middle + (TANH_IN_FULL if numbers.cast and self.middle >= TANH else 0)
        return attention + self._around(numbers) * self.hidden + steps * self.inner * numbers.low

    def _around(self, numbers: Numbers) -> float:
        """Return the bytes for each number of the hidden width: norms, what is cast for linear layers, dropout."""
        norms = 3 if self.crossed else 2
        are_rms = self.norms > 2 * norms
        steps = norms if are_rms and not numbers.still else 0  # what an RMS norm multiplies with its weight
        if not numbers.cast:
            inputs = FULL if are_rms else numbers.low
            return norms * (inputs + numbers.low) + steps * numbers.low + self.masks
        linear = 3 * self._attentions + (2 if self.gated else 1)
        return (norms + steps) * FULL + linear * numbers.low + self.masks

    @property
    def _attentions(self) -> int:
        return 2 if self.crossed else 1

    @property
    def _through_attention(self) -> int:
        """What attention keeps in numbers: queries, keys, values, and what comes out."""
        return 2 * (self.attention + self.keys) * (2 if self.normed else 1)

    @property
    def _is_grouped(self) -> bool:
        return self.keys != self.attention


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

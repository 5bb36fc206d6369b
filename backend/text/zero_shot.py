"""Labels that a model was never trained for: each is put to it as a text of its own, and the one that fits best wins.

The windows of a row are those of the labels, in their order. Which number says how well a window fits is left to the
model around it: see backend/zero_shot.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from backend.errors import UserError
from backend.interfaces import Context, Features, Options, Outputs, Part, Prediction, Row
from backend.text.one_label import OneLabelTask, chosen
from backend.text.prompts import PLACE, fill, pattern_fault, pieces_within, shortened
from backend.text.whole import TEXT, TEXT_PAIR

LABEL = "label"
SCORED = "scored"  # 1 for the tokens of a label, whose likelihood is asked for
FITS = "fits"  # the output that says how well a window fits
TOKENS = "tokens"  # of the label, in a window
ENTAILMENT, PROMPT, LIKELIHOOD = METHODS = ("entailment", "prompt", "likelihood")
PATTERNS = {ENTAILMENT: "This example is {label}.", LIKELIHOOD: "{text}\nThis example is {label}."}


class ZeroShot(Options):
    """How labels are told without training."""

    model: str = Field(description="A model folder, a model of the Hugging Face hub, or package:NAME/FOLDER.")
    revision: str = Field("main", description="Branch, tag or commit of a hub model.")
    labels: tuple[str, ...] = Field(description="The labels, with commas between.")
    by: Literal["entailment", "prompt", "likelihood"] = Field(
        "entailment",
        description="entailment: a model trained on NLI says which label follows from the text (Yin et al. 2019, "
        "arXiv:1909.00161); prompt: a masked language model fills in the label's word (Schick and Schuetze 2021, "
        "arXiv:2001.07676); likelihood: a model that writes says how likely the label goes on from the text.",
    )
    pattern: str = Field(
        "",
        description="What is asked. entailment: a sentence with {label}; prompt: {text} and {mask}; likelihood: {text} "
        "and, behind it, {label}; empty: a usual one.",
    )
    verbalizers: dict[str, str] = Field(
        default_factory=dict, description="prompt: label = its word, or several with | between; otherwise the label."
    )
    calibrate: bool = Field(
        default=False,
        description="likelihood: set the label's own likelihood without a text against it (PMI_DC, Holtzman et al. "
        "2021, arXiv:2104.08315).",
    )
    max_length: int = Field(
        256, ge=16, description="Tokens of a text with its question; of a longer one the text is cut."
    )


class OfEachLabel(OneLabelTask):
    """A task that asks a model about each label of a row by itself."""

    outputs: ClassVar[tuple[str, ...]] = (FITS,)

    class Options(OneLabelTask.Options):
        """Settings of both ways to ask."""

        name: str = "zero-shot"
        pattern: str

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return how well the label of a window fits."""
        return float(outputs[FITS])

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the label that fits best, and the share of each."""
        return chosen(parts, context.labels)


class Entailment(OfEachLabel):
    """Whether "This example is LABEL." follows from the text, asked of a model of natural language inference."""

    title = "Zero-shot by entailment"

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode the text as premise and each label in its sentence as hypothesis; of the two the text is cut."""
        tokenizer = context.tokenizer
        sentences = [fill(context.options.pattern, {LABEL: label}).text for label in context.labels]
        encodings = iter(tokenizer.whole([(row[TEXT.name], sentence) for row in rows for sentence in sentences]))
        windows: list[list[Features]] = []
        for _ in rows:
            windows.append([])
            for _, encoding in zip(sentences, encodings, strict=False):
                text = [piece for piece, sequence in enumerate(encoding.sequence_ids) if sequence == 0]
                kept = shortened(range(len(encoding)), [text], context.options.max_length)
                features = tokenizer.features(encoding)
                windows[-1].append({name: [values[piece] for piece in kept] for name, values in features.items()})
        return windows


class Likelihood(OfEachLabel):
    """How likely a label goes on from the text, asked of a model that writes."""

    title = "Zero-shot by likelihood"
    auto_model = "AutoModelForCausalLM"
    architecture = "decoder"
    outputs: ClassVar[tuple[str, ...]] = (FITS, TOKENS)

    class Options(OfEachLabel.Options):
        """Settings of likelihood."""

        alone: tuple[float, ...] = ()  # how likely each label is without a text; empty: not set against it

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode each row with each label behind it, and note which tokens are the label's."""
        pattern, tokenizer = context.options.pattern, context.tokenizer
        names = [name for name in (TEXT.name, TEXT_PAIR.name) if name in context.columns]
        filled = [
            fill(pattern, {**{name: row[name] for name in names}, LABEL: label})
            for row in rows
            for label in context.labels
        ]
        windows: list[Features] = []
        for one, encoding in zip(filled, tokenizer.whole([each.text for each in filled]), strict=True):
            first, last = one.places[LABEL]
            # The token of a word often begins with the space before it.
            label = [piece for piece, (start, end) in enumerate(encoding.offsets) if end > first and start < last]
            texts = [pieces_within(encoding, one.places[name]) for name in names]
            kept = shortened(range(label[-1] + 1), texts, context.options.max_length)
            features = tokenizer.features(encoding)
            features = {name: [values[piece] for piece in kept] for name, values in features.items()}
            windows.append({**features, SCORED: [int(piece in label) for piece in kept]})
        count = len(context.labels)
        return [windows[start : start + count] for start in range(0, len(windows), count)]

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return the log-likelihood of the label of a window, and of how many tokens."""
        return float(outputs[FITS]), int(outputs[TOKENS])

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the label that fits best: by mean log-likelihood of its tokens, or by PMI_DC (equation 1)."""
        totals = np.asarray([total for total, _ in parts])
        if context.options.alone:
            fits = totals - np.asarray(context.options.alone)
        else:
            fits = totals / np.asarray([tokens for _, tokens in parts])
        return chosen(fits.tolist(), context.labels)


def check(settings: ZeroShot) -> str:
    """Return the pattern to ask with. Raises UserError for what does not go together."""
    labels = settings.labels
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
        raise UserError(f'--labels "{",".join(labels)}": give at least two different ones, such as --labels sport,art')
    for name, given, method in (
        ("verbalizers", settings.verbalizers, PROMPT),
        ("calibrate", settings.calibrate, LIKELIHOOD),
    ):
        if given and settings.by != method:
            raise UserError(f"--{name} is for --by {method} alone, not {settings.by}; leave it out")
    if settings.by == PROMPT:
        return settings.pattern
    pattern = settings.pattern or PATTERNS[settings.by]
    if settings.by == ENTAILMENT:
        fault = pattern_fault(pattern, (LABEL,))
    else:
        fault = pattern_fault(pattern, (TEXT.name, LABEL), (TEXT_PAIR.name,))
        before, _, behind = pattern.partition(f"{{{LABEL}}}")
        if not fault and (PLACE.search(behind) or not PLACE.sub("", before).strip()):
            fault = "must have the texts, and words behind them, before {label}, which goes on from there"
    if fault:
        raise UserError(f'--pattern "{pattern}": {fault}')
    return pattern

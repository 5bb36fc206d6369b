"""A model with a trimmed vocabulary says what the whole one says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

TEXTS = ["good day 今天", "bad day"]


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny BERT with a SentencePiece vocabulary of three scripts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["▁good", "▁bad", "▁day", "今天", "▁добрый", "д", "天", "▁", "a", "1", "<mask>"]
    vocabulary = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [(piece, -2.0 - number / 10) for number, piece in enumerate(words)]
    fast = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "cls": "<s>", "sep": "</s>"}
    folder = tmp_path_factory.mktemp("multilingual")
    PreTrainedTokenizerFast(
        tokenizer_object=fast, **{f"{name}_token": token for name, token in names.items()}
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,  # more than there are pieces, as in the real one
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=1,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def states(folder: Path, text: str) -> tuple[list[str], torch.Tensor]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        found = AutoModel.from_pretrained(folder).eval()(**encoded).last_hidden_state
    return tokenizer.convert_ids_to_tokens(encoded["input_ids"][0]), found


def test_pieces_of_the_texts_and_single_characters_stay_with_their_states(multilingual: Path, tmp_path: Path) -> None:
    import pretrained

    pretrained.trim(multilingual, TEXTS, tmp_path / "trimmed")
    for text in [*TEXTS, "a 1 天"]:
        expected, trimmed = states(multilingual, text), states(tmp_path / "trimmed", text)
        assert trimmed[0] == expected[0]
        assert torch.equal(trimmed[1], expected[1])
    tokens, _ = states(tmp_path / "trimmed", "добрый")
    assert tokens == ["<s>", "▁", "<unk>", "</s>"]
    from transformers import AutoConfig

    # 4 special tokens, <mask>, 4 pieces of the texts, and of the single characters all but the Cyrillic one.
    assert AutoConfig.from_pretrained(tmp_path / "trimmed").vocab_size == 13


def test_conll_sentences_come_with_spaces_and_without() -> None:
    import pretrained

    lines = ["今 O\n", "天 O\n", "\n", "\n", "good\tB-X\n"]
    assert list(pretrained.sentences(lines)) == ["今 天", "今天", "good", "good"]


@pytest.mark.slow
def test_smollm2_answers_what_it_is_asked(real_data: Callable[[str], Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = real_data("smollm2")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Name the capital of France."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    written = model.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(written, skip_special_tokens=True) == "The capital of France is Paris."

"""Loading models that read and write: pretrained ones, and those made of an encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors
from transformers import AutoModelForSeq2SeqLM, EncoderDecoderModel, PreTrainedModel, PreTrainedTokenizerFast

from backend.errors import UserError
from backend.heads.encoder_decoder import EncoderDecoder
from backend.interfaces import Context
from backend.tasks.translation import Translation
from backend.tokenizer import Tokenizer

KWARGS: dict[str, Any] = {
    "revision": "main",
    "dtype": torch.float32,
    "ignore_mismatched_sizes": True,
    "use_safetensors": True,
    "trust_remote_code": False,
}
START: dict[str, Any] = {"decoder_start_token_id": 2}
WORDS = ("open", "close", "file", "打", "开", "关", "闭")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS)
INPUTS = {
    "input_ids": torch.tensor([[2, 5, 6, 3], [2, 4, 3, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    "decoder_input_ids": torch.tensor([[2, 7, 8], [2, 9, 0]]),
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "t5": lambda: transformers.T5Config(  # type: ignore[call-arg]
        vocab_size=11,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        decoder_start_token_id=2,
    ),
    "bart": lambda: transformers.BartConfig(
        vocab_size=11,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=32,
        dropout=0.0,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        forced_eos_token_id=3,
        **START,
    ),
    "bert": lambda: transformers.BertConfig(**_small()),
    "roberta": lambda: transformers.RobertaConfig(**_small(), pad_token_id=0, bos_token_id=2, eos_token_id=3),
}


def _small() -> dict[str, Any]:
    return {
        "vocab_size": 11,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def fast_tokenizer() -> PreTrainedTokenizerFast:
    fast = FastTokenizer(models.WordLevel({token: number for number, token in enumerate(VOCABULARY)}, "[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, **names)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module", params=list(CONFIGS))
def pretrained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = CONFIGS[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModel
    auto.from_config(config).save_pretrained(folder)
    fast_tokenizer().save_pretrained(folder)
    return folder


def logits(model: PreTrainedModel) -> torch.Tensor:
    model.train(False)
    with torch.no_grad():
        found: torch.Tensor = model(**INPUTS).logits
    return found


def test_a_saved_model_is_loaded_exactly(pretrained: Path, tmp_path: Path) -> None:
    model = EncoderDecoder.from_pretrained(pretrained, **KWARGS, id2label={0: "a"}, label2id={"a": 0})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)

    loaded = EncoderDecoder.from_pretrained(tmp_path, dtype=torch.float32, use_safetensors=True)

    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(logits(loaded), logits(model))
    assert torch.equal(logits(AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32)), logits(model))


def test_a_few_steps_of_training_lower_the_loss(pretrained: Path) -> None:
    task = Translation()
    model = EncoderDecoder.from_pretrained(pretrained, **KWARGS)
    config = {"pad_token": "[PAD]", "decoder_start_token_id": 2, "stop_token_ids": [3]}
    tokenizer = Tokenizer(fast_tokenizer().backend_tokenizer, config)
    rows = [{"source": "open file", "target": "打 开"}, {"source": "close file", "target": "关 闭"}]
    windows = [one for (one,) in task.encode(rows, Context(Translation.Options(), (), (), tokenizer))]
    batch = {key: torch.tensor([one[key] for one in windows]) for key in windows[0]}
    targets = {"labels": batch.pop("labels")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    count = sum(task.target_count(one) for one in windows)
    losses = []
    for _ in range(15):
        loss = task.loss(model(**batch), targets, 0.0) / count
        losses.append(loss.item())
        loss.backward()  # type: ignore[no-untyped-call]
        idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        optimizer.step()
        optimizer.zero_grad()

    assert count == 6
    assert losses[-1] < 0.7 * losses[0]
    assert idle == []


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_both_sides_begin_as_the_encoder(kind: str, tmp_path: Path) -> None:
    encoder = transformers.AutoModel.from_config(CONFIGS[kind]())  # type: ignore[no-untyped-call]
    encoder.save_pretrained(tmp_path)
    fast_tokenizer().save_pretrained(tmp_path)

    model = EncoderDecoder.from_pretrained(tmp_path, **KWARGS)

    assert isinstance(model, EncoderDecoderModel)
    pretrained = encoder.state_dict()
    without_pooler = {name for name in pretrained if not name.startswith("pooler.")}
    assert model.encoder.state_dict().keys() == without_pooler
    decoder = model.decoder.base_model.state_dict()
    for name in without_pooler:
        assert torch.equal(model.encoder.state_dict()[name], pretrained[name]), name
        assert torch.equal(decoder[name], pretrained[name]), name
    assert {name.split(".")[3] for name in decoder.keys() - without_pooler} == {"crossattention"}
    embeddings = model.decoder.get_input_embeddings().weight
    assert model.decoder.get_output_embeddings().weight is embeddings
    assert embeddings is not model.encoder.get_input_embeddings().weight
    for settings in (model.config, model.generation_config):
        assert (settings.decoder_start_token_id, settings.eos_token_id, settings.pad_token_id) == (2, 3, 0)
    assert model.config.vocab_size == 11


@pytest.mark.parametrize(
    "config",
    [
        transformers.GPT2Config(vocab_size=11, n_embd=16, n_layer=1, n_head=2),
        transformers.DistilBertConfig(vocab_size=11, dim=16, n_layers=1, n_heads=2, hidden_dim=32),
    ],
    ids=["causal", "encoder that cannot write"],
)
def test_a_model_that_does_not_fit_is_refused_with_those_that_do(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)

    with pytest.raises(UserError) as caught:
        EncoderDecoder.from_pretrained(tmp_path, **KWARGS)

    assert f'model "{tmp_path}" is a {config.model_type}, which cannot read one text and write' in str(caught.value)
    assert "T5" in str(caught.value)
    assert "BERT" in str(caught.value)

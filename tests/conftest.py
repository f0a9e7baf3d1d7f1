"""What tests of several folders share."""

from pathlib import Path

import pytest

WORDS = [f"w{number}" for number in range(40)]
WORDS += ["how", "many", "ways", "find", "the", "sum", "of", "all", "roots", "is", "it", "prime", "gpt", "why"]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of some thousand random parameters with a small vocabulary, as a model folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, ":", "?", ","]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=96,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder

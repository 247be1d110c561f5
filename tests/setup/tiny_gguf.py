"""Writes a Llama model with random weights: half a megabyte that a real engine loads, speaks and streams nonsense with.

usage: tiny_gguf.py OUT.gguf   (needs gguf and numpy)
"""

import sys

import gguf
import numpy as np

LAYERS, WIDTH, HEADS, FEED_FORWARD, CONTEXT = 2, 64, 4, 128, 2048

# Every byte has a token, so that any prompt can be read; the words (among them characters of several bytes) are there
# so that the answers split multi-byte text in all sorts of places.
CONTROL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = "▁ ▁tide ▁gate ▁the ▁of ▁and ▁wait ▁queue s ing . , ? ! \n 限 流 你 好 é 🌊 👋".split(" ")

# What a chat is turned into before the model sees it.
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def write(path: str) -> None:
    kind = gguf.TokenType
    tokens = [token.encode() for token in CONTROL + BYTES + WORDS]
    kinds = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * len(BYTES) + [kind.NORMAL] * len(WORDS)

    model = gguf.GGUFWriter(path, "llama")
    model.add_name("tiny-random")
    model.add_file_type(0)
    model.add_context_length(CONTEXT)
    model.add_block_count(LAYERS)
    model.add_embedding_length(WIDTH)
    model.add_feed_forward_length(FEED_FORWARD)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_rope_dimension_count(WIDTH // HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_vocab_size(len(tokens))
    model.add_tokenizer_model("llama")
    model.add_token_list(tokens)
    model.add_token_types(kinds)
    model.add_token_scores([-float(rank) for rank in range(len(tokens))])
    model.add_unk_token_id(0)
    model.add_bos_token_id(1)
    model.add_eos_token_id(2)
    model.add_chat_template(CHAT_TEMPLATE)

    rng = np.random.default_rng(0)  # the same file every time

    def weights(name: str, *shape: int) -> None:
        model.add_tensor(name + ".weight", rng.normal(0, 0.3, shape).astype(np.float32))

    def norm(name: str) -> None:
        model.add_tensor(name + ".weight", np.ones(WIDTH, np.float32))

    weights("token_embd", len(tokens), WIDTH)
    norm("output_norm")
    weights("output", len(tokens), WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        norm(block + "attn_norm")
        for projection in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights(block + projection, WIDTH, WIDTH)
        norm(block + "ffn_norm")
        weights(block + "ffn_gate", FEED_FORWARD, WIDTH)
        weights(block + "ffn_up", FEED_FORWARD, WIDTH)
        weights(block + "ffn_down", WIDTH, FEED_FORWARD)

    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


if __name__ == "__main__":
    write(sys.argv[1])

#!/usr/bin/env python3
"""Writes a tiny model with random weights that llama.cpp loads: nothing is downloaded.

    tiny_gguf.py FILE

A llama of two layers over a vocabulary of single bytes, in GGUF version 3. What it says is noise;
that it says anything proves that the engine really loaded a model and ran it.
"""

import array
import random
import struct
import sys

EMBEDDING, HEADS, LAYERS, FEED_FORWARD, CONTEXT = 64, 4, 2, 128, 512
ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def u32(key, value):
    return entry(key, U32, struct.pack("<I", value))


def f32(key, value):
    return entry(key, F32, struct.pack("<f", value))


def words(key, value):
    return entry(key, STRING, text(value))


def many(key, kind, items):
    return entry(key, ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def vocabulary():
    """Tokens with their kinds: three of control, every byte, and a space that the tokenizer needs."""
    tokens = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    tokens += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    tokens += [("\u2581", NORMAL)]
    tokens += [(chr(letter), NORMAL) for letter in range(ord("!"), ord("~") + 1)]
    return tokens


def metadata(tokens):
    names = [text(name) for name, _ in tokens]
    kinds = [struct.pack("<i", kind) for _, kind in tokens]
    scores = [struct.pack("<f", -float(rank)) for rank in range(len(tokens))]
    return [
        words("general.architecture", "llama"),
        words("general.name", "tiny random model"),
        u32("llama.block_count", LAYERS),
        u32("llama.context_length", CONTEXT),
        u32("llama.embedding_length", EMBEDDING),
        u32("llama.feed_forward_length", FEED_FORWARD),
        u32("llama.attention.head_count", HEADS),
        u32("llama.attention.head_count_kv", HEADS),
        f32("llama.attention.layer_norm_rms_epsilon", 1e-5),
        u32("llama.rope.dimension_count", EMBEDDING // HEADS),
        u32("llama.vocab_size", len(tokens)),
        words("tokenizer.ggml.model", "llama"),
        many("tokenizer.ggml.tokens", STRING, names),
        many("tokenizer.ggml.scores", F32, scores),
        many("tokenizer.ggml.token_type", I32, kinds),
        u32("tokenizer.ggml.unknown_token_id", 0),
        u32("tokenizer.ggml.bos_token_id", 1),
        u32("tokenizer.ggml.eos_token_id", 2),
        entry("tokenizer.ggml.add_bos_token", BOOL, b"\x01"),
    ]


def tensors(vocabulary_size):
    """Names with their dimensions, the fastest first."""
    yield "token_embd.weight", (EMBEDDING, vocabulary_size)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (EMBEDDING,)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{block}{part}.weight", (EMBEDDING, EMBEDDING)
        yield block + "ffn_norm.weight", (EMBEDDING,)
        yield block + "ffn_gate.weight", (EMBEDDING, FEED_FORWARD)
        yield block + "ffn_up.weight", (EMBEDDING, FEED_FORWARD)
        yield block + "ffn_down.weight", (FEED_FORWARD, EMBEDDING)
    yield "output_norm.weight", (EMBEDDING,)
    yield "output.weight", (EMBEDDING, vocabulary_size)


def padded(length):
    return -length % ALIGNMENT


def main():
    if len(sys.argv) != 2:
        sys.exit("tiny_gguf.py: expected one FILE to write")
    chance = random.Random(7)
    tokens = vocabulary()
    entries, rows, data = metadata(tokens), [], bytearray()
    for name, dimensions in tensors(len(tokens)):
        count = 1
        for length in dimensions:
            count *= length
        is_norm = len(dimensions) == 1
        values = array.array("f", (1.0 if is_norm else chance.gauss(0, 0.05) for _ in range(count)))
        if sys.byteorder == "big":
            values.byteswap()
        rows.append(text(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
                    + struct.pack("<IQ", 0, len(data)))
        data += values.tobytes()
        data += bytes(padded(len(data)))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(rows), len(entries))
    head += b"".join(entries) + b"".join(rows)
    with open(sys.argv[1], "wb") as file:
        file.write(head + bytes(padded(len(head))) + data)


if __name__ == "__main__":
    main()

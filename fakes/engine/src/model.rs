//! Model folders: which files count, and a small one made from nothing.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::run::Error;

/// Deeper than any model repository; a loop of links ends here.
const MOST_DEPTH: u32 = 8;

const WEIGHTS: &str = "model-00001-of-00001.safetensors";

/// One file of a model.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
}

/// All files below the folder in order of name.
pub fn files(folder: &Path) -> Result<Vec<ModelFile>, Error> {
    let mut found = Vec::new();
    collect(folder, 0, &mut found)
        .map_err(|source| Error::Model { path: folder.to_owned(), source })?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    if found.iter().all(|file| file.size == 0) {
        return Err(Error::NoModel { path: folder.to_owned() });
    }
    Ok(found)
}

fn collect(folder: &Path, depth: u32, found: &mut Vec<ModelFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Follows links: a cache may hold the files elsewhere.
        let metadata = fs::metadata(&path)?;
        if metadata.is_file() {
            found.push(ModelFile { path, size: metadata.len() });
        } else if metadata.is_dir() && depth < MOST_DEPTH {
            collect(&path, depth + 1, found)?;
        }
    }
    Ok(())
}

/// Makes a small model in `dir` whose weights have `bytes` bytes; files that are there stay.
///
/// The same bytes every time: config, tokenizer, and weights with a valid safetensors header.
pub fn generate_model(dir: &Path, bytes: u64) -> Result<(), Error> {
    let written = fs::create_dir_all(dir)
        .and_then(|()| if_absent(dir, "config.json", |file| write_config(file)))
        .and_then(|()| if_absent(dir, "tokenizer.json", |file| write_tokenizer(file)))
        .and_then(|()| if_absent(dir, WEIGHTS, |file| write_weights(file, bytes)));
    written.map_err(|source| Error::Model { path: dir.to_owned(), source })
}

/// The file appears whole or not at all, so two generators do not disturb each other.
fn if_absent(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let file = dir.join(name);
    if file.exists() {
        return Ok(());
    }
    let next = dir.join(format!(".{name}.{}", std::process::id()));
    let mut writer = BufWriter::new(fs::File::create(&next)?);
    write(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(next, file)
}

fn write_config(file: &mut dyn Write) -> io::Result<()> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": 32,
        "max_position_embeddings": 32_768,
        "torch_dtype": "uint8",
    });
    writeln!(file, "{config:#}")
}

fn write_tokenizer(file: &mut dyn Write) -> io::Result<()> {
    let words = ["<unk>", "wharf", "quay", "pier", "berth", "crane", "tide", "rope"];
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0",
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    });
    writeln!(file, "{tokenizer:#}")
}

fn write_weights(file: &mut dyn Write, bytes: u64) -> io::Result<()> {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "model.weight": {"dtype": "U8", "shape": [bytes], "data_offsets": [0, bytes]},
    });
    // The format wants the header's length first and lets spaces pad it to a multiple of eight.
    let mut header = header.to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = bytes;
    while left > 0 {
        // xorshift64: bytes that do not compress, the same each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        let count = left.min(8);
        file.write_all(&word[..count as usize])?;
        left -= count;
    }
    Ok(())
}

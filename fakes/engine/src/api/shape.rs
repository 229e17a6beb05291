//! The two shapes of an answer, chat and text, whole and in chunks, exactly as OpenAI has them.

use serde_json::{Value, json};

use crate::meter::Finish;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// What all parts of one answer have in common.
pub struct Shape {
    /// Which of the two.
    pub kind: Kind,
    /// Id of the answer.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
    /// The served model.
    pub model: String,
    /// A stream that ends with the usage has `"usage": null` before.
    pub tells_usage: bool,
}

impl Shape {
    /// The answer in one piece.
    pub fn whole(&self, text: &str, finish: Finish, usage: (u32, u32)) -> Value {
        let choice = match self.kind {
            Kind::Chat => json!({
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": null,
                "finish_reason": finish.word(),
            }),
            Kind::Text => json!({
                "index": 0,
                "text": text,
                "logprobs": null,
                "finish_reason": finish.word(),
            }),
        };
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        let mut whole = self.frame(object, json!([choice]));
        whole["usage"] = usage_of(usage);
        whole
    }

    /// The first chunk of a chat names who speaks; a text has none.
    pub fn opening(&self) -> Option<Value> {
        match self.kind {
            Kind::Chat => Some(self.chunk(&json!({"role": "assistant", "content": ""}), "", None)),
            Kind::Text => None,
        }
    }

    /// The chunk of one token.
    pub fn token(&self, text: &str) -> Value {
        self.chunk(&json!({"content": text}), text, None)
    }

    /// The chunk that says why the answer ends.
    pub fn closing(&self, finish: Finish) -> Value {
        self.chunk(&json!({}), "", Some(finish))
    }

    /// The chunk after the last, if it was asked for.
    pub fn usage(&self, usage: (u32, u32)) -> Value {
        let mut chunk = self.frame(self.chunk_object(), json!([]));
        chunk["usage"] = usage_of(usage);
        chunk
    }

    fn chunk(&self, delta: &Value, text: &str, finish: Option<Finish>) -> Value {
        let reason = finish.map(Finish::word);
        let choice = match self.kind {
            Kind::Chat => {
                json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason})
            }
            Kind::Text => {
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason})
            }
        };
        let mut chunk = self.frame(self.chunk_object(), json!([choice]));
        if self.tells_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn chunk_object(&self) -> &'static str {
        match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        }
    }

    fn frame(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

/// `usage` of prompt and completion.
fn usage_of((prompt, completion): (u32, u32)) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": u64::from(prompt) + u64::from(completion),
    })
}

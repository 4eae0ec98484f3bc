//! What a door was granted, and how it learns that the token was revoked.

use std::sync::Arc;

use super::token::Token;

/// That somebody may do what was asked.
#[derive(Clone)]
#[must_use = "what lasts is held, so that it ends with its token"]
pub struct Grant(By);

#[derive(Clone)]
enum By {
    /// It needs no token.
    Free,
    /// A program decided.
    Decision,
    Token(Arc<Token>),
}

impl Grant {
    pub(super) fn free() -> Self {
        Self(By::Free)
    }

    pub(super) fn decided() -> Self {
        Self(By::Decision)
    }

    pub(super) fn of(token: &Arc<Token>) -> Self {
        token.note_use();
        Self(By::Token(Arc::clone(token)))
    }

    /// Whether anybody may.
    #[must_use]
    pub fn is_free(&self) -> bool {
        matches!(self.0, By::Free)
    }

    /// Something lasts that `end` ends, if the token is revoked before the value is dropped. `end` is
    /// called on the thread that revokes.
    pub fn hold(&self, end: impl FnOnce() + Send + 'static) -> Held {
        Held(match &self.0 {
            By::Token(token) => {
                let name = token.begin(Box::new(end));
                Some((Arc::clone(token), name))
            }
            By::Free | By::Decision => None,
        })
    }
}

/// Something that was begun with a token, and has not ended.
#[must_use = "it counts as ended when this is dropped"]
pub struct Held(Option<(Arc<Token>, u64)>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((token, name)) = &self.0 {
            token.forget(*name);
        }
    }
}

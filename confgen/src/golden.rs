//! Renderings as one reviewable text. For tests.

use crate::output::Grammar;
use crate::render::Rendering;

/// Where they are; `UPDATE_EXPECT=1` writes them anew.
pub(crate) const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

/// Every finding and every file but certificates, whose content is made anew each time.
pub(crate) fn text(rendering: &Rendering) -> String {
    let mut text = String::new();
    for problem in &rendering.problems {
        text.push_str(&format!("! {problem}\n"));
    }
    for (name, file) in &rendering.rendered.files {
        let private = if file.is_private { " (private)" } else { "" };
        text.push_str(&format!("=== {name}{private}\n"));
        if file.grammar != Grammar::Pem {
            text.push_str(&String::from_utf8_lossy(&file.content));
        }
    }
    text
}

//! Color, where it is wanted.

/// Paints text for a terminal, or leaves it plain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    color: bool,
}

impl Style {
    pub const PLAIN: Style = Style { color: false };

    pub fn new(color: bool) -> Self {
        Style { color }
    }

    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub fn change(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Paints by an SGR parameter of ECMA-48.
    fn paint(self, parameter: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\x1b[{parameter}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

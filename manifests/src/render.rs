//! Problems as people read them: the message, `file:line:column`, the source line, a mark under it, and help.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::problem::{Place, Position, Problem, Severity};

/// Writes problems out, one below the other with an empty line between; `color` adds terminal colours.
pub fn render(problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for problem in problems {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&renderer.render(&[group(problem)]));
        text.push('\n');
    }
    text
}

fn group(problem: &Problem) -> Group<'_> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = with_place(Group::with_title(level.primary_title(problem.message.as_str())), &problem.place, true);
    for place in &problem.also {
        group = with_place(group, place, false);
    }
    match &problem.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

fn with_place<'a>(group: Group<'a>, place: &'a Place, primary: bool) -> Group<'a> {
    match &place.position {
        Some(position) if !position.text.is_empty() || position.column == 1 => {
            let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation = kind.span(bytes(position)).label(place.label.as_deref());
            let snippet = Snippet::source(position.text.as_str())
                .line_start(position.line)
                .path(place.file.as_str())
                .annotation(annotation);
            group.element(snippet)
        }
        Some(position) => {
            group.element(Origin::path(place.file.as_str()).line(position.line).char_column(position.column))
        }
        None => group.element(Origin::path(place.file.as_str())),
    }
}

/// Turns columns back into the byte range of the line that annotate-snippets asks for.
fn bytes(position: &Position) -> std::ops::Range<usize> {
    let offset = |column: usize| {
        let mut ends = position.text.char_indices().map(|(offset, _)| offset).chain([position.text.len()]);
        ends.nth(column.saturating_sub(1)).unwrap_or(position.text.len())
    };
    let start = offset(position.column);
    start..offset(position.end_column).max(start)
}

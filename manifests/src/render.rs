//! Problems as people read them: the message, `file:line:column`, the source line, a mark under it, and help.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

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
    let mut group = Group::with_title(level.primary_title(problem.message.as_str()));
    let mut places = vec![(&problem.place, AnnotationKind::Primary)];
    places.extend(problem.also.iter().map(|place| (place, AnnotationKind::Context)));
    while let Some((first, _)) = places.first().copied() {
        let (here, elsewhere): (Vec<_>, Vec<_>) = places.into_iter().partition(|(place, _)| same_line(first, place));
        places = elsewhere;
        group = match &first.position {
            Some(position) if position.is_shown() => {
                let snippet =
                    Snippet::source(position.text.as_str()).line_start(position.line).path(first.file.as_str());
                group.element(snippet.annotations(here.into_iter().filter_map(|(place, kind)| annotation(place, kind))))
            }
            Some(position) => {
                group.element(Origin::path(first.file.as_str()).line(position.line).char_column(position.column))
            }
            None => group.element(Origin::path(first.file.as_str())),
        };
    }
    match &problem.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

fn same_line(one: &Place, other: &Place) -> bool {
    let line = |place: &Place| place.position.as_ref().map(|position| position.line);
    one.file == other.file && line(one) == line(other)
}

fn annotation(place: &Place, kind: AnnotationKind) -> Option<Annotation<'_>> {
    let position = place.position.as_ref()?;
    Some(kind.span(bytes(position)).label(place.label.as_deref()))
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

//! Text as HTML, and losses as a picture.

use sleap_rtc_protocol::chart::{Frame, HEIGHT, Scale, WIDTH};
use sleap_rtc_protocol::course::{Epoch, RunCourse};
use sleap_rtc_protocol::text::Printable;
use std::fmt::Write as _;

/// What is around the plot, in the picture's units: left, top, right, bottom.
const MARGINS: [f64; 4] = [60.0, 10.0, 12.0, 28.0];
/// The most characters of a text.
const TEXT_CHARS: usize = 400_000;

/// The value of a loss in an epoch.
type Loss = fn(&Epoch) -> Option<f64>;

const LOSSES: [(&str, Loss); 2] =
    [("loss", |epoch| epoch.loss), ("validation", |epoch| epoch.validation)];

/// `text` as it is, between tags or in a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in Printable::lines(text, TEXT_CHARS).as_str().chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

/// A table of names and values. Nothing, if there are none.
pub(super) fn table<N: AsRef<str>>(rows: &[(N, String)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |(name, value): &(N, String)| {
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escaped(name.as_ref()),
            escaped(value)
        )
    };
    let rows: String = rows.iter().map(row).collect();
    format!("<table>{rows}</table>\n")
}

/// The losses of a run by their logarithms, as SVG. Nothing, if there are none.
pub(super) fn curves(run: &RunCourse) -> String {
    let points =
        |loss: Loss| run.epochs.iter().filter_map(move |epoch| Some((epoch.number, loss(epoch)?)));
    let all = LOSSES.into_iter().flat_map(|(_, loss)| points(loss));
    let Some(frame) = Frame::around(all, Scale::Log) else { return String::new() };
    let [left, top, right, bottom] = MARGINS;
    let (width, height) = (WIDTH + left + right, HEIGHT + top + bottom);
    let label = escaped(&format!("Losses of {}", run.name));
    let mut svg = format!(
        "<svg viewBox=\"{} {} {width} {height}\" role=\"img\" aria-label=\"{label}\">",
        -left, -top
    );
    // A text takes everything.
    for tick in frame.value_ticks() {
        let (y, text) = (tick.at, escaped(&tick.label));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
        let _ = write!(svg, "<text class=\"value\" x=\"-8\" y=\"{:.1}\">{text}</text>", y + 4.0);
    }
    for tick in frame.epoch_ticks() {
        let (x, y, text) = (tick.at, HEIGHT + 20.0, escaped(&tick.label));
        let _ = write!(svg, "<text class=\"epoch\" x=\"{x:.1}\" y=\"{y}\">{text}</text>");
    }
    for (name, loss) in LOSSES {
        let _ = write!(svg, "<path class=\"{name}\" d=\"{}\"/>", frame.path(points(loss)));
    }
    svg + "</svg>\n"
}

//! Draws what a terminal shows as SVG: text as text, blocks and dots as shapes, so that the picture
//! looks the same with every font.

use std::fmt::Write;

/// One cell, in the picture's units.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 14.0;
const GROUND: &str = "#14171f";
const TEXT: &str = "#d7dce6";

/// How a character looks.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    is_bold: bool,
    is_dim: bool,
    is_reversed: bool,
    /// One of the eight colours, by its number.
    colour: Option<usize>,
}

impl Style {
    fn apply(&mut self, code: usize) {
        match code {
            0 => *self = Self::default(),
            1 => self.is_bold = true,
            2 => self.is_dim = true,
            7 => self.is_reversed = true,
            22 => (self.is_bold, self.is_dim) = (false, false),
            27 => self.is_reversed = false,
            30..=37 => self.colour = Some(code - 30),
            39 => self.colour = None,
            _ => {}
        }
    }

    fn colour(self) -> &'static str {
        const COLOURS: [&str; 8] = [
            "#3b4252", "#f2837b", "#7fd8a0", "#f0c766", "#7ea6ff", "#c79bf2", "#63c7d6", "#d7dce6",
        ];
        match (self.is_reversed, self.colour, self.is_dim) {
            (true, ..) => GROUND,
            (false, Some(colour), _) => COLOURS[colour],
            (false, None, true) => "#8791a4",
            (false, None, false) => TEXT,
        }
    }
}

/// A picture of `screen`, which is text with the escape sequences of colours, as SVG.
pub fn svg(screen: &str, columns: u16) -> String {
    let lines: Vec<&str> = screen.trim_end().lines().collect();
    let (width, height) = (f64::from(columns) * CELL.0, lines.len() as f64 * CELL.1);
    let (width, height) = (width + 2.0 * MARGIN, height + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"ui-monospace,'Cascadia Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace\" \
         font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"10\" fill=\"{GROUND}\"/>\n"
    );
    let mut style = Style::default();
    for (row, line) in lines.into_iter().enumerate() {
        let cells = cells(line, &mut style);
        draw(&cells, MARGIN + row as f64 * CELL.1, &mut svg);
    }
    svg + "</svg>\n"
}

/// The characters of a line with their styles.
fn cells(line: &str, style: &mut Style) -> Vec<(char, Style)> {
    let mut cells = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if let Some((codes, after)) = rest.strip_prefix("\x1b[").and_then(|r| r.split_once('m')) {
            codes.split(';').for_each(|code| style.apply(code.parse().unwrap_or(0)));
            rest = after;
            continue;
        }
        cells.push((first, *style));
        rest = &rest[first.len_utf8()..];
    }
    cells
}

fn draw(cells: &[(char, Style)], top: f64, svg: &mut String) {
    let x = |place: usize| MARGIN + place as f64 * CELL.0;
    let mut rect = |x: f64, y: f64, width: f64, height: f64, fill: &str| {
        write!(
            svg,
            "<path fill=\"{fill}\" d=\"M{x:.1} {y:.1}h{width:.1}v{height:.1}h{:.1}z\"/>",
            -width
        )
        .unwrap();
    };
    let mut place = 0;
    let mut words = Vec::new();
    while let Some(&(first, style)) = cells.get(place) {
        let is_same =
            |cell: &&(char, Style)| cell.1 == style && is_shape(cell.0) == is_shape(first);
        let is_one = |cell: &&(char, Style)| is_same(cell) && (cell.0 == ' ') == (first == ' ');
        let count = cells[place..].iter().take_while(is_one).count();
        if style.is_reversed {
            rect(x(place), top, count as f64 * CELL.0 + 0.6, CELL.1, TEXT);
        }
        let run = &cells[place..place + count];
        if is_shape(first) {
            for (at, (character, _)) in (place..).zip(run) {
                for [left, up, width, height] in shapes(*character) {
                    let (width, height) = (width * CELL.0, height * CELL.1);
                    let (left, up) = (x(at) + left * CELL.0, top + up * CELL.1);
                    rect(left, up, width, height, style.colour());
                }
            }
        } else if first != ' ' {
            words.push((place, run.iter().map(|cell| cell.0).collect::<String>(), style));
        }
        place += count;
    }
    for (place, word, style) in words {
        let weight = if style.is_bold { " font-weight=\"700\"" } else { "" };
        let length = word.chars().count() as f64 * CELL.0;
        let word = word.replace('&', "&amp;").replace('<', "&lt;");
        write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" fill=\"{}\"{weight}>{word}</text>",
            x(place),
            top + 13.5,
            style.colour(),
        )
        .unwrap();
    }
    svg.push('\n');
}

fn is_shape(character: char) -> bool {
    matches!(character, '\u{2500}'..='\u{2502}' | '\u{2581}'..='\u{258f}' | '\u{2801}'..='\u{28ff}')
}

/// The rectangles of a character in the unit square: left, top, width, height.
fn shapes(character: char) -> Vec<[f64; 4]> {
    let code = character as u32;
    match character {
        '\u{2500}' => vec![[0.0, 0.5, 1.05, 0.05]],
        '\u{2501}' => vec![[0.0, 0.44, 1.05, 0.16]],
        '\u{2502}' => vec![[0.45, 0.0, 0.12, 1.0]],
        '\u{2581}'..='\u{2588}' => {
            let height = f64::from(code - 0x2580) / 8.0;
            // Not the whole line, so that one curve is told from the one below it.
            vec![[0.0, 0.9 - height * 0.8, 1.05, height * 0.8]]
        }
        '\u{2589}'..='\u{258f}' => vec![[0.0, 0.1, f64::from(0x2590 - code) / 8.0, 0.8]],
        _ => {
            const DOTS: [(f64, f64); 8] =
                [(0., 0.), (0., 1.), (0., 2.), (1., 0.), (1., 1.), (1., 2.), (0., 3.), (1., 3.)];
            let dots = DOTS.iter().enumerate().filter(|(bit, _)| code >> bit & 1 == 1);
            dots.map(|(_, (x, y))| [0.13 + x * 0.5, 0.06 + y * 0.25, 0.26, 0.13]).collect()
        }
    }
}

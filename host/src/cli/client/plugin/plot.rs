//! The picture of `plugin simulate`: who had which GPU when, and how long jobs waited.

use sleap_rtc_policy::simulate::trace::Trace;
use sleap_rtc_policy::simulate::{JobResult, Simulated};
use sleap_rtc_protocol::text::{Printable, duration};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A simulation to draw.
pub(crate) struct Scene<'a> {
    /// The policy's name.
    pub name: &'a str,
    pub simulated: &'a Simulated,
}

const WIDTH: f64 = 900.0;
/// Left of the chart, for names; and right of it.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 30.0;
const CHART: f64 = WIDTH - LEFT - RIGHT;
/// Above a chart, for its title; and below, for its axis.
const TITLE: f64 = 26.0;
const AXIS: f64 = 24.0;
/// All rows of slots together, at most.
const ROWS: f64 = 320.0;
const ROW: f64 = 14.0;
const WAITS: f64 = 160.0;
const LEGEND: f64 = 24.0;
/// One colour for each of the users with the most jobs; the others share the last one.
const COLOURS: [&str; 9] = [
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5",
    "#9c9c9c",
];
/// One for each policy.
const LINES: [&str; 8] =
    ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#17becf"];

/// The picture as SVG.
pub(crate) fn svg(trace: &Trace, scenes: &[Scene<'_>]) -> String {
    let users = Users::of(trace);
    let slots: usize = trace.workers.iter().map(|worker| worker.slots.len()).sum();
    let row = (ROWS / slots.max(1) as f64).min(ROW);
    let panel = TITLE + row * slots as f64 + AXIS;
    let height = panel * scenes.len() as f64 + TITLE + WAITS + AXIS + LEGEND;
    let end_ms =
        scenes.iter().flat_map(|scene| &scene.simulated.jobs).map(end_ms).max().unwrap_or(1);
    let mut picture = Picture::new(height);
    for (place, scene) in scenes.iter().enumerate() {
        picture.slots(trace, scene, &users, panel * place as f64, row, end_ms);
    }
    picture.waits(trace, scenes, panel * scenes.len() as f64);
    picture.legend(&users, height - 8.0);
    picture.text.push_str("</svg>\n");
    picture.text
}

fn end_ms(result: &JobResult) -> u64 {
    match result {
        JobResult::Ran { end_ms, .. } => *end_ms,
        JobResult::Refused(_) => 0,
    }
}

/// The users, those with the most jobs first.
struct Users<'a> {
    names: Vec<&'a str>,
    colours: BTreeMap<&'a str, usize>,
}

impl<'a> Users<'a> {
    fn of(trace: &'a Trace) -> Self {
        let mut jobs: BTreeMap<&str, usize> = BTreeMap::new();
        for job in &trace.jobs {
            *jobs.entry(job.description.user.as_deref().unwrap_or("-")).or_default() += 1;
        }
        let mut names: Vec<&str> = jobs.keys().copied().collect();
        names.sort_by_key(|name| std::cmp::Reverse(jobs[name]));
        let colour = |(place, name): (usize, &&'a str)| (*name, place.min(COLOURS.len() - 1));
        let colours = names.iter().enumerate().map(colour).collect();
        Self { names, colours }
    }

    fn colour(&self, user: Option<&str>) -> usize {
        self.colours.get(user.unwrap_or("-")).copied().unwrap_or(COLOURS.len() - 1)
    }
}

struct Picture {
    text: String,
}

impl Picture {
    fn new(height: f64) -> Self {
        let mut picture = Self { text: String::new() };
        picture.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" \
             fill=\"#fff\"/>"
        ));
        picture
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{element}");
    }

    fn label(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escaped(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// A row for each slot, and in it a bar for each job in its user's colour.
    fn slots(
        &mut self,
        trace: &Trace,
        scene: &Scene<'_>,
        users: &Users<'_>,
        top: f64,
        row: f64,
        end_ms: u64,
    ) {
        self.label(LEFT, top + 18.0, "start", scene.name);
        let mut first_rows = Vec::new();
        let mut rows = 0;
        for worker in &trace.workers {
            first_rows.push(rows);
            let y = top + TITLE + row * (rows as f64 + worker.slots.len() as f64 / 2.0) + 4.0;
            if row * worker.slots.len() as f64 >= 10.0 {
                self.label(LEFT - 6.0, y, "end", &worker.name());
            }
            rows += worker.slots.len();
        }
        let x = |ms: u64| LEFT + CHART * ms as f64 / end_ms.max(1) as f64;
        let mut bars = vec![String::new(); COLOURS.len()];
        for (job, result) in trace.jobs.iter().zip(&scene.simulated.jobs) {
            let JobResult::Ran { worker, slot, start_ms, end_ms, .. } = result else { continue };
            let (from, to) = (x(*start_ms), x(*end_ms));
            let y = top + TITLE + row * (first_rows[*worker] + slot) as f64;
            let bar = &mut bars[users.colour(job.description.user.as_deref())];
            let (width, height) = ((to - from).max(0.3), row * 0.85);
            let _ = write!(bar, "M{from:.1} {y:.1}h{width:.1}v{height:.1}h-{width:.1}z");
        }
        for (bar, colour) in bars.iter().zip(COLOURS).filter(|(bar, _)| !bar.is_empty()) {
            self.add(format_args!("<path fill=\"{colour}\" d=\"{bar}\"/>"));
        }
        let bottom = top + TITLE + row * rows as f64;
        for quarter in 0..=4 {
            let ms = end_ms * quarter / 4;
            self.label(x(ms), bottom + 14.0, "middle", &span(ms));
        }
    }

    /// For each policy a line: which share of the jobs waited at most how long.
    fn waits(&mut self, trace: &Trace, scenes: &[Scene<'_>], top: f64) {
        self.label(
            LEFT,
            top + 18.0,
            "start",
            "waiting time that a share of the jobs does not exceed",
        );
        let curves: Vec<Vec<u64>> = scenes.iter().map(|scene| percentiles(trace, scene)).collect();
        let most = curves.iter().flatten().copied().max().unwrap_or(0).max(1);
        let (left, bottom) = (LEFT, top + TITLE + WAITS);
        let right = LEFT + CHART;
        self.add(format_args!(
            "<path fill=\"none\" stroke=\"#ccc\" d=\"M{left} {:.1}V{bottom:.1}H{right}\"/>",
            top + TITLE
        ));
        for (place, (curve, scene)) in curves.iter().zip(scenes).enumerate() {
            let colour = LINES[place % LINES.len()];
            let points = curve.iter().enumerate().map(|(percent, ms)| {
                let x = LEFT + CHART * percent as f64 / 100.0;
                let y = bottom - WAITS * *ms as f64 / most as f64;
                format!("{x:.1},{y:.1}")
            });
            let points = points.collect::<Vec<_>>().join(" ");
            self.add(format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{points}\"/>"
            ));
            let y = top + TITLE + 12.0 + 15.0 * place as f64;
            self.add(format_args!(
                "<path stroke=\"{colour}\" stroke-width=\"2\" d=\"M{:.1} {:.1}h18\"/>",
                LEFT + 10.0,
                y - 4.0
            ));
            self.label(LEFT + 34.0, y, "start", scene.name);
        }
        for share in [0, 25, 50, 75, 100] {
            let x = LEFT + CHART * f64::from(share) / 100.0;
            self.label(x, bottom + 14.0, "middle", &format!("{share} %"));
        }
        for part in [1, 2] {
            let y = bottom - WAITS * part as f64 / 2.0 + 4.0;
            self.label(LEFT - 6.0, y, "end", &span(most * part / 2));
        }
    }

    fn legend(&mut self, users: &Users<'_>, y: f64) {
        let mut x = LEFT;
        for (place, colour) in COLOURS.iter().enumerate().take(users.names.len()) {
            let is_rest = place == COLOURS.len() - 1 && users.names.len() > COLOURS.len();
            let name = if is_rest { "others" } else { users.names[place] };
            let square = y - 9.0;
            self.add(format_args!(
                "<rect x=\"{x:.0}\" y=\"{square:.0}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"
            ));
            self.label(x + 14.0, y, "start", name);
            x += 80.0;
        }
    }
}

/// The waiting times, in milliseconds, that 0 %, 1 % … 100 % of the jobs do not exceed.
fn percentiles(trace: &Trace, scene: &Scene<'_>) -> Vec<u64> {
    let jobs = trace.jobs.iter().zip(&scene.simulated.jobs);
    let wait =
        |(job, result): (&sleap_rtc_policy::simulate::trace::TraceJob, &JobResult)| match result {
            JobResult::Ran { start_ms, .. } => Some(start_ms - job.at_ms),
            JobResult::Refused(_) => None,
        };
    let mut waits: Vec<u64> = jobs.filter_map(wait).collect();
    waits.sort_unstable();
    let last = waits.len().saturating_sub(1);
    (0..=100).map(|percent| waits.get(last * percent / 100).copied().unwrap_or(0)).collect()
}

/// A time for people.
pub(crate) fn span(ms: u64) -> String {
    duration(ms as f64 / 1000.0)
}

/// Text from a trace, which may have been written by anybody.
fn escaped(text: &str) -> String {
    let text: String = Printable::line(text, 80).into();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        let told = [0, 99_000, 120_000, 7_199_000, 7_200_000, 172_800_000].map(span);
        assert_eq!(told, ["0 s", "99 s", "2 min", "120 min", "2.0 h", "2.0 d"]);
    }

    #[test]
    fn names_cannot_break_out_of_the_picture() {
        let text = r#"
{"worker":{"peer_id":"w","properties":{"hostname":"<script>","gpus":[{"model":"A","memory_mib":1}]}}}
{"job":{"id":"1","at_s":0,"duration_s":30,"job_type":"training","user":"a & b"}}
{"job":{"id":"2","at_s":10,"duration_s":30,"job_type":"training"}}
"#;
        let trace = Trace::read(text.as_bytes()).unwrap();
        let ran = |start_ms, end_ms| JobResult::Ran {
            worker: 0,
            slot: 0,
            start_ms,
            end_ms,
            passed_over_ms: 0,
        };
        let simulated = Simulated {
            jobs: vec![ran(0, 30_000), ran(30_000, 60_000)],
            failures: BTreeMap::new(),
        };
        let picture = svg(&trace, &[Scene { name: "a<b", simulated: &simulated }]);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        for word in ["&lt;script&gt;", "a &amp; b", "a&lt;b", "M150.0 26.0h360.0"] {
            assert!(picture.contains(word), "no {word:?} in:\n{picture}");
        }
        assert!(!picture.contains("<script>"));
    }
}

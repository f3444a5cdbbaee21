//! Curves as paths and ticks of an SVG picture.

use std::fmt::Write as _;

/// The size of the plot, in the picture's units.
pub const WIDTH: f64 = 420.0;
/// See [`WIDTH`].
pub const HEIGHT: f64 = 190.0;

/// How values are placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scale {
    /// At even distances.
    #[default]
    Linear,
    /// By their logarithms. Values that have none are left out.
    Log,
}

/// What a plot shows of its axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    scale: Scale,
    /// The first and the last epoch.
    epochs: (f64, f64),
    /// The smallest and the largest value, scaled.
    values: (f64, f64),
}

/// A value to write beside an axis, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// From the left, or from the top.
    pub at: f64,
    /// The value.
    pub label: String,
}

impl Scale {
    fn apply(self, value: f64) -> Option<f64> {
        let scaled = match self {
            Self::Linear => value,
            Self::Log => value.log10(),
        };
        scaled.is_finite().then_some(scaled)
    }
}

impl Frame {
    /// A frame around all `points`: epochs and values. `None` if there is nothing to show.
    pub fn around(points: impl Iterator<Item = (u64, f64)>, scale: Scale) -> Option<Self> {
        let (mut epochs, mut values) = (None, None);
        let grow = |range: &mut Option<(f64, f64)>, value: f64| {
            let (least, most) = range.unwrap_or((value, value));
            *range = Some((least.min(value), most.max(value)));
        };
        for (epoch, value) in points {
            if let Some(value) = scale.apply(value) {
                grow(&mut epochs, epoch as f64);
                grow(&mut values, value);
            }
        }
        let (first, last) = epochs?;
        let (least, most) = values?;
        let margin = ((most - least) * 0.05).max(1e-9);
        Some(Self {
            scale,
            epochs: (first, last.max(first + 1.0)),
            values: (least - margin, most + margin),
        })
    }

    fn x(&self, epoch: f64) -> f64 {
        (epoch - self.epochs.0) / (self.epochs.1 - self.epochs.0) * WIDTH
    }

    fn y(&self, scaled: f64) -> f64 {
        (self.values.1 - scaled) / (self.values.1 - self.values.0) * HEIGHT
    }

    /// Where a point is, if it can be shown.
    pub fn place(&self, epoch: u64, value: f64) -> Option<(f64, f64)> {
        Some((self.x(epoch as f64), self.y(self.scale.apply(value)?)))
    }

    /// The path of a curve.
    pub fn path(&self, points: impl Iterator<Item = (u64, f64)>) -> String {
        let mut path = String::new();
        for (x, y) in points.filter_map(|(epoch, value)| self.place(epoch, value)) {
            let step = if path.is_empty() { 'M' } else { 'L' };
            // A text takes everything.
            let _ = write!(path, "{step}{x:.1} {y:.1}");
        }
        path
    }

    /// The epoch at this distance from the left.
    pub fn epoch_at(&self, x: f64) -> u64 {
        let share = (x / WIDTH).clamp(0.0, 1.0);
        (self.epochs.0 + share * (self.epochs.1 - self.epochs.0)).round().max(0.0) as u64
    }

    /// Round values beside the curve.
    pub fn value_ticks(&self) -> Vec<Tick> {
        let values = match self.scale {
            Scale::Linear => multiples(self.values, MOST_TICKS),
            Scale::Log => round_powers(self.values),
        };
        let tick = |(value, label)| {
            let at = self.y(self.scale.apply(value)?);
            at.is_finite().then_some(Tick { at, label })
        };
        values.into_iter().filter_map(tick).collect()
    }

    /// Round epochs below the curve, counted from 1.
    pub fn epoch_ticks(&self) -> Vec<Tick> {
        let (first, last) = (self.epochs.0 + 1.0, self.epochs.1 + 1.0);
        let whole = multiples((first, last), MOST_TICKS).into_iter();
        let whole = whole.filter(|(number, _)| number.fract() == 0.0);
        whole
            .map(|(number, _)| Tick { at: self.x(number - 1.0), label: label(number, 0) })
            .collect()
    }
}

/// The most ticks of an axis.
const MOST_TICKS: u32 = 6;
/// The steps between round values, within a power of ten.
const ROUND_STEPS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

/// The multiples of a round step within a range, at most `most` of them, as numbers and as texts.
fn multiples((least, greatest): (f64, f64), most: u32) -> Vec<(f64, String)> {
    let wanted = (greatest - least) / f64::from(most);
    let power = 10f64.powf(wanted.log10().floor());
    let steps = ROUND_STEPS.into_iter().map(|step| step * power);
    let Some(step) = steps.into_iter().find(|step| *step >= wanted) else { return Vec::new() };
    let (first, last) = ((least / step).ceil(), (greatest / step).floor());
    let decimals = (-step.log10() - 1e-9).ceil().clamp(0.0, 12.0) as usize;
    let count = (last - first).clamp(0.0, f64::from(most)) as u32;
    // Adding zero makes a zero positive.
    let values = (0..=count).map(|number| (first + f64::from(number)) * step + 0.0);
    let values = values.filter(|value| *value <= greatest);
    values.map(|value| (value, label(value, decimals))).collect()
}

/// Round values of a range that is given by its logarithms: powers of ten, and 2 and 5 times those if there
/// is room.
fn round_powers((least, greatest): (f64, f64)) -> Vec<(f64, String)> {
    let (first, last) = (least.floor().max(-400.0) as i32, greatest.ceil().min(400.0) as i32);
    let within = |factors: &[f64], stride: usize| -> Vec<(f64, String)> {
        let powers = (first..=last).step_by(stride);
        let values = powers.flat_map(|power| {
            factors.iter().map(move |factor| (factor * 10f64.powi(power), (-power).max(0) as usize))
        });
        let is_within = |(value, _): &(f64, usize)| (least..=greatest).contains(&value.log10());
        values.filter(is_within).map(|(value, decimals)| (value, label(value, decimals))).collect()
    };
    let fine = within(&[1.0, 2.0, 5.0], 1);
    match fine.len() {
        // Less than a factor of ten is shown: its values are as good as evenly spread.
        0..3 => multiples((10f64.powf(least), 10f64.powf(greatest)), MOST_TICKS / 2),
        3..=8 => fine,
        _ => within(&[1.0], (last - first).max(0) as usize / MOST_TICKS as usize + 1),
    }
}

fn label(value: f64, decimals: usize) -> String {
    match value.abs() {
        size if size != 0.0 && !(1e-5..1e6).contains(&size) => {
            format!("{value:.1e}").replace(".0e", "e")
        }
        _ => format!("{value:.decimals$}"),
    }
}

/// A loss, in the fewest digits that tell it from its neighbours.
pub fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size == 0.0 => "0".into(),
        _ if !(1e-4..1e5).contains(&size) => format!("{value:.1e}"),
        _ if size < 0.01 => format!("{value:.5}"),
        _ if size < 1.0 => format!("{value:.4}"),
        _ if size < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_fills_its_frame() {
        let points = [(0, 1.0), (1, 0.5), (2, 0.0)];
        let frame = Frame::around(points.into_iter(), Scale::Linear).unwrap();
        assert_eq!(frame.path(points.into_iter()), "M0.0 8.6L210.0 95.0L420.0 181.4");
        assert_eq!((frame.epoch_at(290.0), frame.epoch_at(1e9)), (1, 2));
        let labels: Vec<_> = frame.epoch_ticks().into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["1", "2", "3"]);
    }

    #[test]
    fn ticks_are_round() {
        let labels =
            |ticks: Vec<Tick>| ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>();
        let values = |values: [f64; 2], scale| {
            let points = (0..).zip(values);
            labels(Frame::around(points, scale).unwrap().value_ticks())
        };
        assert_eq!(values([0.001, 0.044], Scale::Linear), ["0.00", "0.01", "0.02", "0.03", "0.04"]);
        assert_eq!(values([-3.0, 140.0], Scale::Linear), ["0", "50", "100"]);
        assert_eq!(values([2e-9, 8.9e-9], Scale::Linear), ["2e-9", "4e-9", "6e-9", "8e-9"]);
        assert_eq!(values([0.001, 0.04], Scale::Log), ["0.001", "0.002", "0.005", "0.01", "0.02"]);
        assert_eq!(values([0.03, 0.04], Scale::Log), ["0.030", "0.035", "0.040"]);
        let powers = ["1e-6", "0.0001", "0.01", "1", "100"];
        assert_eq!(values([5e-8, 50.0], Scale::Log), powers);
        let epochs = |last| {
            let points = [(0, 0.1), (last, 0.2)].into_iter();
            labels(Frame::around(points, Scale::Linear).unwrap().epoch_ticks())
        };
        assert_eq!(epochs(59), ["10", "20", "30", "40", "50", "60"]);
        assert_eq!(epochs(1), ["1", "2"]);
    }

    #[test]
    fn senseless_values_have_few_ticks() {
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -0.0, 1e300] {
            for scale in [Scale::Linear, Scale::Log] {
                let points = [(0, 1.0), (u64::MAX, value)].into_iter();
                let Some(frame) = Frame::around(points, scale) else { continue };
                assert!(frame.value_ticks().len() <= 9, "{value}");
                assert!(frame.epoch_ticks().len() <= 9, "{value}");
            }
        }
    }

    #[test]
    fn what_has_no_logarithm_or_is_no_number_is_left_out() {
        let points = [(0, 0.0), (1, 0.1), (2, f64::NAN), (3, 0.01), (4, f64::INFINITY)];
        let frame = Frame::around(points.into_iter(), Scale::Log).unwrap();
        assert_eq!(frame.path(points.into_iter()).matches('L').count(), 1);
        assert_eq!(Frame::around([(0, f64::NAN)].into_iter(), Scale::Linear), None);
        assert!(Frame::around([(7, 0.3)].into_iter(), Scale::Linear).is_some());
    }
}

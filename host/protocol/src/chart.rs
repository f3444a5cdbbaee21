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

    fn undo(self, scaled: f64) -> f64 {
        match self {
            Self::Linear => scaled,
            Self::Log => 10f64.powf(scaled),
        }
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

    /// Values beside the curve.
    pub fn value_ticks(&self) -> Vec<Tick> {
        let (least, most) = self.values;
        let steps = 4;
        (0..=steps)
            .map(|step| {
                let scaled = least + (most - least) * f64::from(step) / f64::from(steps);
                Tick { at: self.y(scaled), label: short(self.scale.undo(scaled)) }
            })
            .collect()
    }

    /// Epochs below the curve, counted from 1.
    pub fn epoch_ticks(&self) -> Vec<Tick> {
        let (first, last) = self.epochs;
        let step = ((last - first) / 6.0).ceil().max(1.0);
        let count = ((last - first) / step).floor() as u32;
        (0..=count)
            .map(|number| {
                let epoch = first + step * f64::from(number);
                Tick { at: self.x(epoch), label: format!("{}", epoch + 1.0) }
            })
            .collect()
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
    fn what_has_no_logarithm_or_is_no_number_is_left_out() {
        let points = [(0, 0.0), (1, 0.1), (2, f64::NAN), (3, 0.01), (4, f64::INFINITY)];
        let frame = Frame::around(points.into_iter(), Scale::Log).unwrap();
        assert_eq!(frame.path(points.into_iter()).matches('L').count(), 1);
        assert_eq!(Frame::around([(0, f64::NAN)].into_iter(), Scale::Linear), None);
        assert!(Frame::around([(7, 0.3)].into_iter(), Scale::Linear).is_some());
    }
}

//! A curve in one line of text.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last point of `values` stands right, the first one left. Each column shows the mean of its
/// values, by their logarithms where all of them have one: losses fall steeply.
pub(crate) fn sparkline(values: &[f64], columns: usize) -> String {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let has_logarithms = finite.iter().all(|value| *value > 0.0);
    let scaled: Vec<f64> = match has_logarithms {
        true => finite.iter().map(|value| value.ln()).collect(),
        false => finite,
    };
    let means = means(&scaled, columns);
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let most = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |mean: &f64| {
        let share = if most > least { (mean - least) / (most - least) } else { 0.0 };
        let step = (share * (BARS.len() - 1) as f64).round() as usize;
        BARS.get(step).copied().unwrap_or(' ')
    };
    means.iter().map(bar).collect()
}

/// At most `columns` means of neighbours.
fn means(values: &[f64], columns: usize) -> Vec<f64> {
    let columns = columns.min(values.len());
    let start = |column: usize| column * values.len() / columns.max(1);
    let slices = (0..columns).map(|column| &values[start(column)..start(column + 1)]);
    slices.map(|slice| slice.iter().sum::<f64>() / slice.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_fills_its_line() {
        let halves: Vec<f64> = (0..8).map(|power| 0.5f64.powi(power)).collect();
        assert_eq!(sparkline(&halves, 20), "█▇▆▅▄▃▂▁");
        assert_eq!(sparkline(&halves, 4), "█▆▃▁");
        assert_eq!(sparkline(&[0.0, 1.0, -1.0], 3), "▅█▁");
        assert_eq!(sparkline(&[2.0, f64::NAN, 2.0], 9), "▁▁");
        assert_eq!((sparkline(&[], 9), sparkline(&halves, 0)), (String::new(), String::new()));
    }
}

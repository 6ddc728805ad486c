//! How the time for one scope grows with the number of scopes.

use crate::measure::Measurement;

/// What counts as flat: a time that grows by less than this power of the number of scopes. From 100 scopes to
/// 100,000 that is a factor of 2.8; a search in a tree has an exponent of about 0.1 there, and work that looks at
/// every scope has 1.
pub const FLAT: f64 = 0.15;

/// The times (or bytes) for one scope of a case, by the number of scopes.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    case: String,
    /// Whether it is expected to be flat.
    judged: bool,
    points: Vec<(usize, f64)>,
}

/// Collects the points of each case, in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct Growths(Vec<Growth>);

impl Growths {
    /// Adds what was measured of a case among as many scopes as its notes tell: the time, and the memory if any.
    /// The time is only shown if it is not `judged`.
    pub(super) fn add(&mut self, case: &str, judged: bool, measurement: &Measurement) {
        let note = |name: &str| {
            let mut notes = measurement.notes.iter();
            notes.find(|(known, _)| *known == name)?.1.as_u64()
        };
        let Some(scopes) = note("scopes").and_then(|scopes| usize::try_from(scopes).ok()) else {
            return;
        };
        self.add_point(case, judged, scopes, measurement.ns);
        if let Some(bytes) = note("bytes_per_scope") {
            self.add_point("bytes_per_cached_scope", true, scopes, bytes as f64);
        }
    }

    fn add_point(&mut self, case: &str, judged: bool, scopes: usize, measured: f64) {
        match self.0.iter_mut().find(|growth| growth.case == case) {
            Some(growth) => growth.points.push((scopes, measured)),
            None => self.0.push(Growth {
                case: case.to_owned(),
                judged,
                points: vec![(scopes, measured)],
            }),
        }
    }

    /// One measurement for each case that was measured at several sizes. Its time is that at the last.
    pub(super) fn into_measurements(self) -> impl Iterator<Item = Measurement> {
        self.0.into_iter().filter_map(|growth| {
            let exponent = exponent(&growth.points)?;
            let (_, last) = growth.points.last()?;
            let name = format!("growth_{}", growth.case);
            let measured = growth.points.iter().map(|(_, measured)| measured.round());
            let measured: Vec<_> = measured.collect();
            let scopes: Vec<_> = growth.points.iter().map(|(scopes, _)| *scopes).collect();
            let measurement = Measurement::of(name, vec![*last])
                .with("exponent", (exponent * 1000.0).round() / 1000.0)
                .with("scopes", scopes)
                .with("measured", measured);
            Some(if growth.judged {
                measurement.with("flat", exponent < FLAT)
            } else {
                measurement
            })
        })
    }
}

/// The slope of the logarithm of what was measured against that of the number of scopes; none of a single size.
fn exponent(points: &[(usize, f64)]) -> Option<f64> {
    let logs: Vec<_> = points
        .iter()
        .map(|(scopes, measured)| ((*scopes as f64).ln(), measured.ln()))
        .collect();
    let count = logs.len() as f64;
    let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    let together = logs
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum::<f64>();
    (spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::{FLAT, exponent};

    fn of(time: impl Fn(f64) -> f64) -> f64 {
        let sizes = [100, 1_000, 10_000, 100_000];
        exponent(&sizes.map(|size| (size, time(size as f64)))).unwrap()
    }

    #[test]
    fn what_takes_the_same_for_each_scope_has_none() {
        assert!(of(|_| 150.0).abs() < 1e-9);
    }

    #[test]
    fn a_look_at_every_scope_has_one_and_a_search_in_a_tree_counts_as_flat() {
        assert!((of(|scopes| 3.0 * scopes) - 1.0).abs() < 1e-9);
        let tree = of(f64::ln);
        assert!(tree > 0.05 && tree < FLAT, "{tree}");
    }

    #[test]
    fn one_size_tells_nothing() {
        assert_eq!(exponent(&[(100, 1.0)]), None);
        assert_eq!(exponent(&[(100, 1.0), (100, 2.0)]), None);
    }
}

//! Medians and ratios. Machines are noisy, so a row is judged by the median over several rounds.

/// Measured values of one kind, in the order of the rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// `count` samples of the same value.
    pub(crate) fn same(value: f64, count: usize) -> Self {
        Self(vec![value; count])
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds the samples of another.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All samples multiplied by `factor`.
    pub(crate) fn times(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|sample| sample * factor).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The median, the upper one if the number of samples is even; 0 without samples.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The least sample that at least `percent` percent of the others are below; 0 without samples.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len() * percent / 100).copied().unwrap_or(0.0)
    }

    /// The least and the greatest sample; both 0 without samples.
    pub(crate) fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0))
    }
}

/// The ratio `over / under` of each round. A disturbance that slows a round affects both values.
pub(crate) fn ratio(over: &Samples, under: &Samples) -> Samples {
    each(over, under, |over, under| over / under)
}

/// The difference `from - less` of each round.
pub(crate) fn difference(from: &Samples, less: &Samples) -> Samples {
    each(from, less, |from, less| from - less)
}

fn each(left: &Samples, right: &Samples, compare: impl Fn(f64, f64) -> f64) -> Samples {
    Samples(left.0.iter().zip(&right.0).map(|(left, right)| compare(*left, *right)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_pair_rounds() {
        let ratios = ratio(&Samples(vec![1.0, 30.0, 2.0]), &Samples(vec![2.0, 10.0, 2.0]));
        assert_eq!(ratios.0, [0.5, 3.0, 1.0]);
        assert!((ratios.median() - 1.0).abs() < f64::EPSILON);
        assert_eq!(ratios.range(), (0.5, 3.0));
    }

    #[test]
    fn percentiles_count_from_the_least() {
        let samples = Samples((0..200).rev().map(f64::from).collect());
        assert_eq!([0, 50, 99].map(|percent| samples.percentile(percent)), [0.0, 100.0, 198.0]);
        assert!(Samples::none().percentile(99).abs() < f64::EPSILON);
    }
}

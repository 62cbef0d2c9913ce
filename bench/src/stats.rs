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

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The median, the upper one if the number of samples is even; 0 without samples.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// The least and the greatest sample; both 0 without samples.
    pub(crate) fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0))
    }
}

/// The ratio `over / under` of each round. A disturbance that slows a round affects both values.
pub(crate) fn ratio(over: &Samples, under: &Samples) -> Samples {
    Samples(over.0.iter().zip(&under.0).map(|(over, under)| over / under).collect())
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
}

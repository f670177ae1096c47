//! Turns: variants are measured one after the other, again and again, so that a machine whose speed drifts is fair to all.

use crate::row::{Row, median};

/// The figures of one benchmark, by variant.
pub(crate) struct Turns {
    bench: &'static str,
    unit: &'static str,
    better: &'static str,
    figures: Vec<(String, Vec<f64>)>,
    rows: Vec<Row>,
}

impl Turns {
    pub(crate) fn new(bench: &'static str, unit: &'static str, better: &'static str) -> Self {
        Turns { bench, unit, better, figures: Vec::new(), rows: Vec::new() }
    }

    /// A variant had its turn.
    pub(crate) fn add(&mut self, variant: &str, figure: f64) {
        eprintln!("  {} {variant}: {figure:.3} {}", self.bench, self.unit);
        match self.figures.iter_mut().find(|(known, _)| known == variant) {
            Some((_, figures)) => figures.push(figure),
            None => self.figures.push((variant.to_owned(), vec![figure])),
        }
    }

    /// The middle one of the ratios that two variants had to each other in the same turn.
    pub(crate) fn ratio(&mut self, variant: &str, to: &str, target: Option<f64>) {
        let figures = |name: &str| self.figures.iter().find(|(known, _)| known == name).map(|(_, figures)| figures);
        let (Some(ours), Some(theirs)) = (figures(variant), figures(to)) else { return };
        let value = median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect());
        let row = format!("{variant}, to {to}");
        self.rows.push(Row { bench: self.bench, row, value, unit: "ratio", better: self.better, target });
    }

    /// The medians, and then the ratios.
    pub(crate) fn rows(self) -> Vec<Row> {
        let Turns { bench, unit, better, figures, rows } = self;
        let medians = figures.into_iter().map(|(row, figures)| Row {
            bench,
            row,
            value: median(figures),
            unit,
            better,
            target: None,
        });
        medians.chain(rows).collect()
    }
}

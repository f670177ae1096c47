//! Turns: variants are measured one after the other, again and again, so that a machine whose speed drifts is fair to all.

use std::time::Duration;

use anyhow::Result;

use crate::row::{Row, cpu, median};

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

/// What moving events cost: the time says what users see, the CPU time of this process hardly depends on who else is busy.
pub(crate) struct Cost {
    rate: f64,
    cpu: f64,
}

impl Cost {
    /// Of something that answers how long its events took.
    pub(crate) async fn of(events: usize, work: impl Future<Output = Result<Duration>>) -> Result<Cost> {
        let before = cpu()?;
        let took = work.await?;
        let used = cpu()?.saturating_sub(before);
        let events = events as f64;
        Ok(Cost { rate: events / took.as_secs_f64(), cpu: used.as_secs_f64() * 1e6 / events })
    }
}

/// Rates and CPU time of the same variants.
pub(crate) struct Costs {
    rates: Turns,
    cpu: Turns,
}

impl Costs {
    pub(crate) fn new(bench: &'static str) -> Self {
        let cpu = Turns::new(bench, "us CPU/event", "lower");
        Costs { rates: Turns::new(bench, "events/s", "higher"), cpu }
    }

    pub(crate) fn add(&mut self, variant: &str, cost: &Cost) {
        self.rates.add(variant, cost.rate);
        self.cpu.add(variant, cost.cpu);
    }

    /// For a variant in a process of its own.
    pub(crate) fn add_rate(&mut self, variant: &str, rate: f64) {
        self.rates.add(variant, rate);
    }

    pub(crate) fn ratio(&mut self, variant: &str, to: &str, target: Option<f64>) {
        self.rates.ratio(variant, to, target);
        self.cpu.ratio(variant, to, None);
    }

    pub(crate) fn rows(self) -> Vec<Row> {
        let cpu = self.cpu.rows().into_iter().map(|row| Row { row: format!("CPU: {}", row.row), ..row });
        self.rates.rows().into_iter().chain(cpu).collect()
    }
}

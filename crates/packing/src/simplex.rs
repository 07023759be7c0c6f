//! Covering with columns: `min cost · x` subject to `columns · x >= need`, `x >= 0`, where columns keep arriving.
//!
//! A revised simplex with an explicit basis inverse. It starts from one column per row (the caller supplies them), keeps
//! its basis when columns are added, and is never asked for anything that is later claimed: its dual prices go through
//! [`crate::bound`].

use crate::meter::Meter;

const NOISE: f64 = 1e-9;
/// Pivots between two fresh inverses, if there are no more rows than half of that.
const REFRESH: usize = 300;
/// How much more than asked for is covered, at most: whoever reads the solution looks for whole numbers, and the duals are
/// as good as without it.
const MORE: f64 = 1.5e-3;

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) cost: f64,
    pub(crate) rows: Vec<(usize, f64)>,
}

#[derive(Debug)]
pub(crate) struct Cover {
    rows: usize,
    need: Vec<f64>,
    columns: Vec<Column>,
    /// How long each column is: what improves most per length enters.
    lengths: Vec<f64>,
    /// Column of each basis row; `columns.len()` and more never appear: surplus is `usize::MAX - row`.
    basis: Vec<usize>,
    basic: Vec<bool>,
    filled: Vec<f64>,
    inverse: Vec<f64>,
    dual: Vec<f64>,
    pivots: usize,
    step: Vec<f64>,
}

/// A number from 0 to 1 that tells neighbouring rows apart.
fn scattered(row: usize) -> f64 {
    let mixed = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as f64 / (1_u64 << 24) as f64
}

fn length(column: &Column) -> f64 {
    let squares: f64 = column.rows.iter().map(|(_, amount)| amount * amount).sum();
    squares.sqrt().max(1e-9)
}

fn surplus(row: usize) -> usize {
    usize::MAX - row
}

impl Cover {
    /// `first[row]` must cover `row` and nothing else.
    pub(crate) fn new(need: &[f64], first: Vec<Column>) -> Self {
        Self::start(need, first.into_iter().map(Some).collect())
    }

    /// A row without a first column must need no more than nothing.
    pub(crate) fn start(need: &[f64], first: Vec<Option<Column>>) -> Self {
        let rows = need.len();
        // A hair more than asked for, and nowhere the same, keeps ties from stalling the simplex: with many small needs it
        // otherwise pivots thousands of times without getting anywhere.
        let more = |(row, need): (usize, &f64)| need + need.abs() * MORE * (1.0 + scattered(row)) / 2.0 + 1e-7;
        let mut cover = Self {
            rows,
            need: need.iter().enumerate().map(more).collect(),
            basic: Vec::new(),
            columns: Vec::new(),
            lengths: Vec::new(),
            basis: Vec::new(),
            filled: Vec::new(),
            inverse: vec![0.0; rows * rows],
            dual: vec![0.0; rows],
            pivots: 0,
            step: vec![0.0; rows],
        };
        for (row, column) in first.into_iter().enumerate() {
            let amount = column.as_ref().map_or(-1.0, |column| column.rows[0].1);
            cover.inverse[row * rows + row] = 1.0 / amount;
            cover.filled.push((cover.need[row] / amount).max(0.0));
            cover.dual[row] = column.as_ref().map_or(0.0, |column| column.cost / amount);
            cover.basis.push(if column.is_some() { cover.columns.len() } else { surplus(row) });
            cover.basic.extend(column.is_some().then_some(true));
            cover.lengths.extend(column.as_ref().map(length));
            cover.columns.extend(column);
        }
        cover
    }

    pub(crate) fn add(&mut self, column: Column) {
        self.lengths.push(length(&column));
        self.columns.push(column);
        self.basic.push(false);
    }

    pub(crate) fn duals(&self) -> &[f64] {
        &self.dual
    }

    /// The amount of each column in use.
    pub(crate) fn solution(&self) -> Vec<(usize, f64)> {
        let used = self
            .basis
            .iter()
            .zip(&self.filled)
            .filter(|(column, filled)| **column < self.columns.len() && **filled > 1e-7);
        let mut used: Vec<(usize, f64)> = used.map(|(column, filled)| (*column, *filled)).collect();
        used.sort_by_key(|(column, _)| *column);
        used
    }

    fn cost(&self, column: usize) -> f64 {
        self.columns.get(column).map_or(0.0, |column| column.cost)
    }

    /// Pivot until no column improves or the budget ends; says which.
    pub(crate) fn solve(&mut self, meter: &Meter<'_>) -> bool {
        let limit = 50 * (self.rows + 10);
        for _ in 0..limit {
            if meter.over() {
                return false;
            }
            let Some(entering) = self.entering(meter) else { return true };
            if !self.pivot(entering, meter) {
                return true;
            }
        }
        false
    }

    fn entering(&self, meter: &Meter<'_>) -> Option<usize> {
        let mut best = None;
        let mut most = 0.0;
        let mut steps = self.rows;
        for (at, column) in self.columns.iter().enumerate() {
            steps += column.rows.len() + 2;
            if self.basic[at] {
                continue;
            }
            let worth: f64 = column.rows.iter().map(|(row, amount)| amount * self.dual[*row]).sum();
            let gain = (worth - column.cost) / self.lengths[at];
            if gain > most && worth - column.cost > NOISE * column.cost.max(1.0) {
                most = gain;
                best = Some(at);
            }
        }
        meter.spend(steps);
        if best.is_none() {
            let negative = (0..self.rows).filter(|&row| self.dual[row] < -NOISE);
            best = negative.min_by(|&a, &b| self.dual[a].total_cmp(&self.dual[b])).map(surplus);
        }
        best
    }

    fn pivot(&mut self, entering: usize, meter: &Meter<'_>) -> bool {
        let rows = self.rows;
        for row in 0..rows {
            let line = &self.inverse[row * rows..(row + 1) * rows];
            self.step[row] = match self.columns.get(entering) {
                Some(column) => column.rows.iter().map(|(at, amount)| line[*at] * amount).sum(),
                None => -line[usize::MAX - entering],
            };
        }
        let mut leaving = None;
        let mut far = f64::INFINITY;
        for row in 0..rows {
            if self.step[row] > 1e-9 {
                let ratio = self.filled[row].max(0.0) / self.step[row];
                let closer = ratio < far - 1e-12;
                let firmer =
                    ratio <= far + 1e-12 && leaving.is_some_and(|other: usize| self.step[row] > self.step[other]);
                if closer || firmer {
                    far = far.min(ratio);
                    leaving = Some(row);
                }
            }
        }
        let Some(row) = leaving else { return false };
        meter.spend(rows * rows + rows * 8);
        let gain = match self.columns.get(entering) {
            Some(column) => column.cost - column.rows.iter().map(|(at, amount)| amount * self.dual[*at]).sum::<f64>(),
            None => self.dual[usize::MAX - entering],
        };
        for other in 0..rows {
            self.filled[other] -= far * self.step[other];
        }
        self.filled[row] = far;
        let old = self.basis[row];
        if old < self.columns.len() {
            self.basic[old] = false;
        }
        if entering < self.columns.len() {
            self.basic[entering] = true;
        }
        self.basis[row] = entering;
        let pivot = self.step[row];
        let (before, rest) = self.inverse.split_at_mut(row * rows);
        let (line, after) = rest.split_at_mut(rows);
        for value in line.iter_mut() {
            *value /= pivot;
        }
        for (other, target) in before.chunks_exact_mut(rows).enumerate() {
            eliminate(target, line, self.step[other]);
        }
        for (other, target) in after.chunks_exact_mut(rows).enumerate() {
            eliminate(target, line, self.step[row + 1 + other]);
        }
        for (dual, value) in self.dual.iter_mut().zip(line.iter()) {
            *dual += gain * value;
        }
        self.pivots += 1;
        if self.pivots.is_multiple_of(REFRESH.max(2 * rows)) {
            self.refresh(meter);
        }
        true
    }

    /// Invert the basis anew; leaves everything as it is if the basis looks singular.
    fn refresh(&mut self, meter: &Meter<'_>) {
        let rows = self.rows;
        meter.spend(rows * rows * rows);
        let mut basis = vec![0.0; rows * rows];
        for (at, &column) in self.basis.iter().enumerate() {
            match self.columns.get(column) {
                Some(column) => {
                    for &(row, amount) in &column.rows {
                        basis[row * rows + at] = amount;
                    }
                }
                None => basis[(usize::MAX - column) * rows + at] = -1.0,
            }
        }
        let Some(inverse) = inverted(basis, rows) else { return };
        self.inverse = inverse;
        for row in 0..rows {
            let line = &self.inverse[row * rows..(row + 1) * rows];
            self.filled[row] = line.iter().zip(&self.need).map(|(a, b)| a * b).sum::<f64>().max(0.0);
        }
        self.dual = vec![0.0; rows];
        for row in 0..rows {
            let cost = self.cost(self.basis[row]);
            let line = &self.inverse[row * rows..(row + 1) * rows];
            for (dual, value) in self.dual.iter_mut().zip(line) {
                *dual += cost * value;
            }
        }
    }
}

fn eliminate(target: &mut [f64], line: &[f64], factor: f64) {
    if factor != 0.0 {
        for (value, subtract) in target.iter_mut().zip(line) {
            *value -= factor * subtract;
        }
    }
}

/// Gauss and Jordan, with the largest pivot of each column.
fn inverted(mut matrix: Vec<f64>, rows: usize) -> Option<Vec<f64>> {
    let mut inverse = vec![0.0; rows * rows];
    for row in 0..rows {
        inverse[row * rows + row] = 1.0;
    }
    for column in 0..rows {
        let size = |row: &usize| matrix[row * rows + column].abs();
        let pivot = (column..rows).max_by(|a, b| size(a).total_cmp(&size(b)))?;
        if size(&pivot) < 1e-10 {
            return None;
        }
        for at in 0..rows {
            matrix.swap(column * rows + at, pivot * rows + at);
            inverse.swap(column * rows + at, pivot * rows + at);
        }
        let by = matrix[column * rows + column];
        for at in 0..rows {
            matrix[column * rows + at] /= by;
            inverse[column * rows + at] /= by;
        }
        let line = matrix[column * rows..(column + 1) * rows].to_vec();
        let inverse_line = inverse[column * rows..(column + 1) * rows].to_vec();
        for row in (0..rows).filter(|&row| row != column) {
            let factor = matrix[row * rows + column];
            eliminate(&mut matrix[row * rows..(row + 1) * rows], &line, factor);
            eliminate(&mut inverse[row * rows..(row + 1) * rows], &inverse_line, factor);
        }
    }
    Some(inverse)
}
